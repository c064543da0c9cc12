"""What the robust rules share: a round that is spooled, and the Gram matrix of its updates.

Every site counts once. The number of cases is a site's own claim, and a rule made to bear a few wrong sites must not
let one of them choose its weight; federated averaging, where no site is thought wrong, takes it.

Flower has Krum, the trimmed mean and the median too, on whole replies in memory and in order of arrival; its functions
are what the tests compare these with.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.shell.progress import Said, tell
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import (
    Aggregator,
    Float64,
    Outcome,
    Update,
    copy_tensors,
    measure_step,
    select_floating,
)
from prostafed.server.aggregation.exact import LARGEST
from prostafed.server.aggregation.spool import Spool
from prostafed.server.exchange.admission import RejectedError


@dataclass(frozen=True)
class Spooled:
    """A round in the making: what was sent, and the replies on disk."""

    sent: Tensors
    spool: Spool


def spool_replies(combine: Callable[[Spooled], tuple[Tensors, dict[str, float]]], name: str) -> Aggregator:
    """Return the aggregator `name` that keeps all replies and then has `combine` give the new tensors and diagnostics;
    it says where so few have answered that it bears no wrong one.
    """

    def finish(state: Spooled) -> Outcome:
        found, needed = len(state.spool.sites), AGGREGATORS[name].bears_from
        if 1 < found < needed:  # one alone is itself under any rule
            tell(Said("round", f"{name} needs {needed} replies to bear a wrong one and had {found}: this is a mean."))
        try:
            tensors, diagnostics = combine(state)
        finally:
            state.spool.close()
        return Outcome(tensors, {}, measure_step(state.sent, tensors) | diagnostics)

    return Aggregator(init=_start, add=_add, finish=finish)


def combine_columns(state: Spooled, combine: Callable[[Float64], Float64]) -> Tensors:
    """Return the global tensors, each value that sites sent replaced by `combine` of them, (sites, values) -> (values).

    The values of each column are sorted, so that the result cannot depend on which site sent which.
    """
    tensors = copy_tensors(state.sent)
    for rows in state.spool.read():
        tensors[rows.name].reshape(-1)[rows.block] = combine(np.sort(rows.values, axis=0))
    return tensors


def average_sites(state: Spooled, weights: dict[str, float]) -> Tensors:
    """Return the global tensors, each that sites with a weight sent replaced by their weighted mean."""
    tensors = copy_tensors(state.sent)
    for rows in state.spool.read():
        chosen = [(row, weights[site]) for row, site in enumerate(rows.sites) if weights.get(site, 0.0) > 0]
        if chosen:
            mean = sum(
                (weight * rows.values[row] for row, weight in chosen[1:]), chosen[0][1] * rows.values[chosen[0][0]]
            )
            tensors[rows.name].reshape(-1)[rows.block] = mean / sum(weight for _, weight in chosen)
    return tensors


def measure_distances(state: Spooled) -> Float64:
    """Return the squared L2 distances between all updates, (sites, sites), sites in order of name, over the tensors
    that every site sent.

    One pass: |a - b|^2 = a.a + b.b - 2 a.b, of the differences from the global model, where little cancels.
    """
    gram = np.zeros((len(state.spool.sites), len(state.spool.sites)))
    for rows in state.spool.read(state.spool.common()):
        updates = rows.values - state.sent[rows.name].reshape(-1)[rows.block]
        gram += updates @ updates.T
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def _start(tensors: Tensors, memory: Tensors, sites: int = 0) -> Spooled:
    return Spooled(tensors, Spool(tensors))


def _add(state: Spooled, update: Update) -> Spooled:
    for name, array in select_floating(update.tensors).items():
        if not np.isfinite([array.max(initial=0.0), array.min(initial=0.0)]).all():
            raise RejectedError("NOT_FINITE", f"{name} holds values that are not finite")
        # Beside a huge value all other distances are lost to rounding, and even its weight of 1e-17 moves the result.
        if not max(float(array.max(initial=0.0)), -float(array.min(initial=0.0))) < LARGEST:
            raise RejectedError("TOO_LARGE", f"{name} holds a value of {LARGEST:.3g} or more")
    state.spool.add(update)
    return state
