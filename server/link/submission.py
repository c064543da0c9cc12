"""Studies on the link that runs: submit one, follow its rounds, stop it. Results appear in the home's runs/."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.shell.progress import Said, tell
from prostafed.server.link.following import follow, read_rounds
from prostafed.server.link.home import ask_link
from prostafed.server.records.lines import RoundLine, WaitingLine
from prostafed.server.records.read import read_waiting

FILE = "submission.json"
_WORDS = {
    "NOT_APPROVED": "waiting for approval",
    "APPROVAL_OVER": "its approval is over",
    "RESTING": "rests",
    "HALTED": "halted",
}


@dataclass(frozen=True)
class Submission:
    """What a run was asked to be; it lies in the run's folder, so that the run can be taken up again."""

    study: str  # in canonical form
    run: str
    sites_expected: int
    initial: str = ""  # file the encoder starts from


def submit_run(home: Path, submission: Submission) -> None:
    """Submit a study to the running link; results appear in home/runs/NAME.

    A run of that name that ended early goes on where it stands. Raises ConfigurationError while one is going on.
    """
    out = find_run(home, submission.run)
    values = {"study": submission.study, "initial": submission.initial, "sites_expected": submission.sites_expected}
    ask_link(home, "begin", name=submission.run, out=str(out), **values)
    write_json(make_folder(out) / FILE, asdict(submission))


def read_submission(home: Path, run: str) -> Submission:
    """Return what a run was asked to be; raises ConfigurationError where there is no such run."""
    path = find_run(home, run) / FILE
    if not path.exists():
        raise ConfigurationError(f"No run named {run} was submitted from {home}.")
    values = json.loads(path.read_text(encoding="utf-8"))
    return Submission(**{name: values[name] for name in Submission.__dataclass_fields__})


def follow_run(
    home: Path, run: str, on_round: Callable[[RoundLine], None] | None = None, seen: Collection[str] = ()
) -> None:
    """Report the rounds of a submitted run that are not in `seen` until it ends; leaving earlier does not stop it. A
    link that is down is waited for: it goes on with its runs when it is started again. Whom a run waits for before its
    first round is told.

    Raises RoundError with the run's reason if it failed.
    """
    expected, out = read_submission(home, run).sites_expected, find_run(home, run)
    rounds, told = read_rounds(out), Said("", "")

    def find_end() -> str:
        nonlocal told
        says, end = Said("", ""), ""
        try:
            status = ask_link(home, "status")
        except ConfigurationError:
            says = Said("link", "it does not answer. The run goes on when it is started: prostafed-server start")
        else:
            if (out / "state.json").exists():
                return ""
            if run not in status["runs"]:
                unknown = "the link does not know it any more. Resume it: prostafed-server resume"
                end = status.get("ended", {}).get(run) or unknown
            elif read_rounds(out) == rounds and (lacks := _say_lacking(status["sites"], read_waiting(out), expected)):
                says = Said(run, f"not ready: {lacks}. prostafed-server status says what to do.")
        if says.text and says != told:
            tell(says)
        told = says
        return end

    follow(out, find_end, on_round=on_round, seen=seen)


def _say_lacking(sites: Sequence[Mapping[str, Any]], waiting: Mapping[str, WaitingLine], expected: int) -> str:
    """Return who is not ready and why; "" where `expected` sites are."""
    lacking = {str(site["name"]): "not connected" for site in sites if not site["online"]}
    lacking |= {site: _WORDS.get(line.code, line.code) for site, line in waiting.items()}
    ready = [site for site in sites if site["name"] not in lacking]
    return "" if len(ready) >= expected else ", ".join(f"{site} ({why})" for site, why in sorted(lacking.items()))


def run_study(home: Path, submission: Submission, on_round: Callable[[RoundLine], None] | None = None) -> Path:
    """Submit a study, report its rounds until it ends, and return the run's folder; raises as the two it is made of."""
    out = find_run(home, submission.run)
    seen = read_rounds(out)
    submit_run(home, submission)
    wanted = "1 site is" if submission.sites_expected == 1 else f"{submission.sites_expected} sites are"
    tell(Said(submission.run, f"begins once {wanted} ready. Ctrl-C ends what you see here, not the run."))
    follow_run(home, submission.run, on_round, seen)
    return out


def stop_run(home: Path, run: str) -> None:
    """Have the link stop a run; sites learn of it at their next question."""
    read_submission(home, run)
    ask_link(home, "stop", name=run)


def find_run(home: Path, run: str) -> Path:
    """Return the folder of a run."""
    return home.resolve() / "runs" / run
