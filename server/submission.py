"""Studies on the link that runs: submit one, follow its rounds, stop it. Results appear in the home's runs/."""

import json
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.files import make_folder, write_json
from prostafed.server import control
from prostafed.server.bundle import write_bundle
from prostafed.server.link import connect


def submit_run(home: Path, study_json: str, run: str, sites_expected: int) -> str:
    """Submit a study to the running link and return Flower's id of the run; results appear in home/runs/`run`.

    A run of that name that ended early goes on where it stands. Raises ConfigurationError while one is going on.
    """
    connection, out = connect(home), home.resolve() / "runs" / run
    submission = out / "submission.json"
    if submission.exists() and not (out / "state.json").exists():
        with suppress(RoundError):  # a link with a new database does not know the run any more
            status, _ = control.read_status(connection, _read_run_id(out))
            if not status.startswith("finished"):
                raise ConfigurationError(f"A run named {run} is {status}. Follow it, stop it, or choose another name.")
    make_folder(out)
    (out / "state.json").unlink(missing_ok=True)  # it tells of the end of an earlier try
    with tempfile.TemporaryDirectory(prefix="pf-") as scratch:
        values = {"study": study_json, "run": run, "sites_expected": str(sites_expected)}
        run_id = control.submit(connection, write_bundle(Path(scratch) / "prostafed"), values)
    write_json(submission, {"run_id": run_id})
    return run_id


def follow_run(
    home: Path, run: str, on_round: Callable[[dict[str, Any]], None] | None = None, seen: Collection[str] = ()
) -> None:
    """Report the rounds of a submitted run that are not in `seen` until it ends; leaving earlier does not stop it.

    Raises RoundError with the run's reason if it failed.
    """
    out = home.resolve() / "runs" / run
    if not (out / "submission.json").exists():
        raise ConfigurationError(f"No run named {run} was submitted from {home}.")
    control.follow(out, connect(home), _read_run_id(out), on_round=on_round, seen=seen)


def run_study(
    home: Path,
    study_json: str,
    run: str,
    sites_expected: int,
    *,
    on_round: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Submit a study, report its rounds until it ends, and return the run's folder; raises as the two it is made of."""
    out = home.resolve() / "runs" / run
    seen = control.read_rounds(out)
    submit_run(home, study_json, run, sites_expected)
    follow_run(home, run, on_round, seen)
    return out


def stop_run(home: Path, run: str) -> None:
    """Ask the link to stop a run; sites may compute for some seconds more."""
    control.stop(connect(home), _read_run_id(home.resolve() / "runs" / run))


def _read_run_id(out: Path) -> str:
    return str(json.loads((out / "submission.json").read_text(encoding="utf-8"))["run_id"])
