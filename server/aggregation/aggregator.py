"""An aggregator as a value: functions that are called as replies arrive, and nothing that lasts beyond a round.

What an aggregator remembers from round to round (moments, control variates, a count of rounds) is `memory`, named
tensors like any others: saved and read with the model, they make a resumed run the same run to the last bit.

Floating tensors are combined; integer ones are counters, no average of which means anything, and stay as the global
model has them. The choice is made by dtype. Normalisation statistics, to which no optimiser of the server may be
applied, do not occur: the encoder has instance or group normalisation, which keeps none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from prostafed.common.tensors import Tensors, cut

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Update:
    """An admitted, decoded reply. `tensors` may be some of the global ones, and hold what the entry says a site `sends`
    beside them.
    """

    site: str
    cases: int
    steps: int
    tensors: Tensors


@dataclass(frozen=True)
class Outcome:
    """What a round gave: new global tensors, the next round's memory, figures for the round record."""

    tensors: Tensors
    memory: Tensors
    diagnostics: dict[str, float]


class Init(Protocol):
    """Begins a round. `sites`: how many the federation has, asked in this round or not; 0: as many as answer."""

    def __call__(self, tensors: Tensors, memory: Tensors, sites: int = 0) -> Any:
        """Return the state of the round."""


def _send_nothing(tensors: Tensors, memory: Tensors) -> Tensors:
    return {}


@dataclass(frozen=True)
class Aggregator:
    """One line of the table, built.

    init      (global tensors, memory, sites) -> state of one round; memory is what the stage's last finish returned, {}
              in its first round, sites how many the federation has, which scaffold asks for
    add       (state, update) -> state; on arrival, in any order. Raises RejectedError, and leaves no trace, where the
              update cannot be used
    finish    (state) -> Outcome. Raises RoundError where too few replies came for the rule
    send      (global tensors, memory) -> what travels to the sites beside the global tensors
    """

    init: Init
    add: Callable[[Any, Update], Any]
    finish: Callable[[Any], Outcome]
    send: Callable[[Tensors, Tensors], Tensors] = _send_nothing


def select_floating(tensors: Mapping[str, npt.NDArray[Any]]) -> Tensors:
    """Return the tensors that are combined, sorted by name."""
    return {name: tensors[name] for name in sorted(tensors) if np.issubdtype(tensors[name].dtype, np.floating)}


def copy_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> Tensors:
    """Return writable contiguous copies."""
    return {name: np.array(array, order="C") for name, array in tensors.items()}


def measure_step(before: Tensors, after: Tensors) -> dict[str, float]:
    """Return {"update_norm": the L2 norm of the change of all floating tensors}."""
    squared = 0.0
    for name, array in select_floating(before).items():
        old, new = array.reshape(-1), after[name].reshape(-1)
        for block in cut(old.size):
            change = new[block].astype(np.float64) - old[block]
            squared += float(change @ change)
    return {"update_norm": squared**0.5}
