"""L-DAWA (Rehman et al. 2023): each tensor of a site is weighted by how far it still points where the global one does,

    W^l <- 1/K sum_k cos(W_k^l, W^l) W_k^l

after warm-up rounds of federated averaging. That shrinks norms, since cosines are below 1; `normalised` divides by the
sum of the cosines instead of K, negative ones taken as 0, and leaves a tensor as it was that no site's points along.
Where a norm is 0 no cosine exists, as for biases in their first round, and the sites count alike. Integer buffers are
left out. Every site counts once, whatever its cases, but in warm-up rounds.

`memory` is rounds_done, the rounds of the stage so far.
"""

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.aggregation import LDawaParameters
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors, cut
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update, measure_step, select_floating
from prostafed.server.aggregation.exact import add_weighted
from prostafed.server.aggregation.fedavg import Averaging, add_by_cases, start_averaging, take_means

ROUNDS = "rounds_done"


def build(name: str, parameters: Settings) -> Aggregator:
    """Return L-DAWA; `parameters` are LDawaParameters."""
    assert isinstance(parameters, LDawaParameters)
    return Aggregator(init=start_averaging, add=partial(_add, parameters), finish=_finish)


def cosine(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Return the cosine of the angle between two tensors, in [-1, 1], or 1 where either is zero."""
    products = np.zeros(3)
    a, b = one.reshape(-1), other.reshape(-1)
    for block in cut(a.size):
        x, y = a[block].astype(np.float64), b[block].astype(np.float64)
        products += (x @ y, x @ x, y @ y)
    norm = float(np.sqrt(products[1]) * np.sqrt(products[2]))
    return min(1.0, max(-1.0, float(products[0]) / norm)) if norm > 0 else 1.0


def _rounds_done(memory: Tensors) -> int:
    return int(memory[ROUNDS][0]) if memory else 0


def _add(parameters: LDawaParameters, state: Averaging, update: Update) -> Averaging:
    if _rounds_done(state.memory) < parameters.warmup_rounds:
        return add_by_cases(state, update)
    tensors = select_floating(update.tensors)
    # A float is a fraction: the sum of the cosines, too, is exact in whatever order they come.
    cosines = {name: Fraction(cosine(array, state.sent[name])) for name, array in tensors.items()}
    if parameters.normalised:
        total = add_weighted(state.total, tensors, {name: max(Fraction(0), each) for name, each in cosines.items()})
    else:
        total = add_weighted(state.total, tensors, cosines, divisors=dict.fromkeys(tensors, Fraction(1)))
    return Averaging(state.sent, state.memory, total)


def _finish(state: Averaging) -> Outcome:
    tensors = take_means(state)
    memory = {ROUNDS: np.array([_rounds_done(state.memory) + 1], np.int64)}
    return Outcome(tensors, memory, measure_step(state.sent, tensors))
