"""Studies on the link that runs: submit one, follow its rounds, stop it. Results appear in the home's runs/."""

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.shell.files import make_folder, scratch_folder, write_json
from prostafed.server.link import control
from prostafed.server.link.app_bundle import write_bundle
from prostafed.server.link.link import connect
from prostafed.server.records.lines import RoundLine

FILE = "submission.json"


@dataclass(frozen=True)
class Submission:
    """What a run was asked to be; it lies in the run's folder, so that the run can be taken up again."""

    study: str  # in canonical form
    run: str
    sites_expected: int
    initial: str = ""  # file the encoder starts from


def submit_run(home: Path, submission: Submission) -> str:
    """Submit a study to the running link and return Flower's id of the run; results appear in home/runs/NAME.

    A run of that name that ended early goes on where it stands. Raises ConfigurationError while one is going on.
    """
    connection, out = connect(home), home.resolve() / "runs" / submission.run
    written = out / FILE
    if written.exists() and not (out / "state.json").exists():
        with suppress(RoundError):  # a link with a new database does not know the run any more
            status, _ = control.read_status(connection, _read_run_id(out))
            if not status.startswith("finished"):
                raise ConfigurationError(
                    f"A run named {submission.run} is {status}. Follow it, stop it, or choose another name."
                )
    make_folder(out)
    (out / "state.json").unlink(missing_ok=True)  # it tells of the end of an earlier try
    with scratch_folder() as scratch:
        values = {name: str(value) for name, value in asdict(submission).items()}
        run_id = control.submit(connection, write_bundle(scratch / "prostafed"), values)
    write_json(written, {**asdict(submission), "run_id": run_id})
    return run_id


def read_submission(home: Path, run: str) -> Submission:
    """Return what a run was asked to be; raises ConfigurationError where there is no such run."""
    path = home.resolve() / "runs" / run / FILE
    if not path.exists():
        raise ConfigurationError(f"No run named {run} was submitted from {home}.")
    values = json.loads(path.read_text(encoding="utf-8"))
    return Submission(**{name: values[name] for name in Submission.__dataclass_fields__})


def follow_run(
    home: Path, run: str, on_round: Callable[[RoundLine], None] | None = None, seen: Collection[str] = ()
) -> None:
    """Report the rounds of a submitted run that are not in `seen` until it ends; leaving earlier does not stop it.

    Raises RoundError with the run's reason if it failed.
    """
    read_submission(home, run)
    out = home.resolve() / "runs" / run
    control.follow(out, connect(home), _read_run_id(out), on_round=on_round, seen=seen)


def run_study(home: Path, submission: Submission, on_round: Callable[[RoundLine], None] | None = None) -> Path:
    """Submit a study, report its rounds until it ends, and return the run's folder; raises as the two it is made of."""
    out = home.resolve() / "runs" / submission.run
    seen = control.read_rounds(out)
    submit_run(home, submission)
    follow_run(home, submission.run, on_round, seen)
    return out


def stop_run(home: Path, run: str) -> None:
    """Ask the link to stop a run; sites may compute for some seconds more."""
    control.stop(connect(home), _read_run_id(home.resolve() / "runs" / run))


def _read_run_id(out: Path) -> str:
    return str(json.loads((out / FILE).read_text(encoding="utf-8"))["run_id"])
