"""When a training step began at a site: a line in a file for each, written by the stand-ins for training."""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

# Stands at the top of the stand-ins: they run in processes that import nothing of this folder.
NOTE = """
import os, time
def note_step():
    with open({file!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{time.time()}}\\n")
"""


def read_steps(file: Path) -> list[float]:
    """Return when the steps began, in order."""
    if not file.exists():
        return []
    return sorted(float(line.split()[1]) for line in file.read_text().splitlines())


def split_rounds(steps: list[float], sites: int) -> list[float]:
    """Return the seconds from one round's first step, at whichever site, to the next round's."""
    firsts = steps[::sites]
    return [later - earlier for earlier, later in pairwise(firsts)]


def wait_until(condition: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Return once `condition` holds."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: waited {deadline_s:.0f} s in vain.")
        time.sleep(0.05)
