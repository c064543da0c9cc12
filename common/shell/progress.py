"""Progress: whoever works says how far it is; whoever listens shows it. Nobody listens unless a command asked to."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Step:
    """An optimiser step at a site; stage and round count from 1."""

    site: str
    stage: int
    round: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class RoundDone:
    """A round finished at the server; `seconds` it took, `loss` is NaN where every site withheld its own."""

    stage: int
    kind: str
    round: int
    seconds: float
    loss: float


@dataclass(frozen=True)
class Said:
    """A sentence for the person at the terminal, e.g. why a site refused."""

    site: str
    text: str


Event = Step | RoundDone | Said
_listener: ContextVar[Callable[[Event], None] | None] = ContextVar("listener", default=None)


def mean_loss(metrics: Iterable[Mapping[str, float]]) -> float:
    """Return the mean of the training losses among what each site told, NaN where all of them withheld it."""
    losses = [told["loss"] for told in metrics if "loss" in told]
    return fmean(losses) if losses else math.nan


def say_loss(loss: float) -> str:
    """Return "0.123", or "withheld" for NaN: sites keep a loss over few patients to themselves."""
    return "withheld" if math.isnan(loss) else f"{loss:.3f}"


def tell(event: Event) -> None:
    """Pass `event` to the listener, if there is one."""
    if listener := _listener.get():
        listener(event)


@contextmanager
def listening(listener: Callable[[Event], None]) -> Iterator[None]:
    """Send what is told inside this context to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
