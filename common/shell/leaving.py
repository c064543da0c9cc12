"""SIGTERM in a process that works on something long: it leaves at once, or at the next step, where what was done can be
kept first.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """Work was left because the process is to end: nothing of it is sent, and it goes on from what was kept."""


@dataclass
class _Leaving:
    asked: bool = False
    at_step: bool = False


_leaving = _Leaving()  # of this process, as its signals are


def leave_on_sigterm() -> None:
    """Let SIGTERM raise Interrupted from now on, inside `until_step` at the next step."""
    _leaving.asked = False
    signal.signal(signal.SIGTERM, _on_sigterm)


def is_asked_to_leave() -> bool:
    """Return whether SIGTERM came."""
    return _leaving.asked


@contextmanager
def until_step() -> Iterator[None]:
    """Let SIGTERM be noted only; whoever works inside asks `is_asked_to_leave` at every step."""
    before, _leaving.at_step = _leaving.at_step, True
    try:
        yield
    finally:
        _leaving.at_step = before


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    _leaving.asked = True
    if not _leaving.at_step:
        raise Interrupted
