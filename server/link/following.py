"""A run, followed from outside by the files of its folder."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from prostafed.common.errors import RoundError
from prostafed.common.shell.processes import Child, require_alive
from prostafed.common.shell.progress import mean_loss, say_loss
from prostafed.server.records.lines import RoundLine
from prostafed.server.records.read import read_state

_LOOK_EVERY_S = 0.3


def follow(
    out: Path,
    find_end: Callable[[], str],
    *,
    on_round: Callable[[RoundLine], None] | None = None,
    seen: Collection[str] = (),
    started: Sequence[Child] = (),
    ask_every_s: float = 5.0,
) -> None:
    """Report each line of out/rounds.jsonl that is not in `seen`, until out/state.json says how the run ended.

    `find_end` is asked now and then; it returns why a run that wrote no end is over, "" while it goes on. Raises
    RoundError with the run's own reason if it failed, if it ended without one, or if a child is gone.
    """
    reported, asked, ended = set(seen), time.monotonic(), ""
    while True:
        state = read_state(out)
        for line in read_rounds(out):
            if line not in reported and on_round:
                on_round(RoundLine.model_validate_json(line, extra="ignore"))
            reported.add(line)
        if state.state == "finished":
            return
        if state.state == "failed":
            raise RoundError(state.error or "The run failed and gave no reason.")
        if ended:
            raise RoundError(f"The run ended before it was finished: {ended}")
        require_alive(started)
        if time.monotonic() - asked > ask_every_s:
            ended, asked = find_end(), time.monotonic()
        time.sleep(_LOOK_EVERY_S)


def read_rounds(out: Path) -> list[str]:
    """Return the lines of out/rounds.jsonl; the file is replaced whole at each round, and none of its lines is half."""
    path = out / "rounds.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def say_round(row: RoundLine) -> str:
    """Return a round in one line."""
    losses = ", ".join(f"{site} {say_loss(mean_loss([metrics]))}" for site, metrics in row.metrics.items())
    missing = ", ".join(f"{entry['site']} {entry['code']}" for entry in row.rejections)
    said = [f"{row.kind} round {row.round}", f"loss {losses or 'none'}", f"{row.seconds:.1f} s"]
    said += [f"without {missing}"] if missing else []
    said += [] if row.aggregated else ["NOT AGGREGATED"]
    said += [f"DIVERGED at {', '.join(row.diverged)}"] if row.diverged else []
    return " · ".join(said)
