"""Federated averaging (McMahan et al. 2017): sum_k (n_k / n) W_k, n_k cases at site k, the exact sum rounded once.

A tensor is averaged over the sites that sent it, n counting those alone; one that no site sent stays as it was. Also
the server's half of fedprox, fedu, fedema and ditto, which differ at the sites only.

Flower's FedAvg keeps all replies in memory, sums in order of arrival and lets NaN and float64 buffers through, so it
is a comparison in tests/benchmarks/aggregation.py and no part of this.
"""

from dataclasses import dataclass
from fractions import Fraction

from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update, copy_tensors, measure_step
from prostafed.server.aggregation.exact import ExactSum, add_weighted, close_sum, open_sum, read_means


@dataclass(frozen=True)
class Averaging:
    """A round in the making: what was sent, what is remembered, the running sum. Memory: 16 bytes per parameter,
    however many sites.
    """

    sent: Tensors
    memory: Tensors
    total: ExactSum


def build(name: str, parameters: Settings) -> Aggregator:
    """Return federated averaging, weighted by cases."""
    return Aggregator(init=start_averaging, add=add_by_cases, finish=_finish)


def start_averaging(tensors: Tensors, memory: Tensors, sites: int = 0) -> Averaging:
    """Return a round without replies."""
    return Averaging(tensors, memory, open_sum(tensors))


def add_by_cases(state: Averaging, update: Update) -> Averaging:
    """Return the round with one more reply, weighted by its cases; raises RejectedError as add_weighted does."""
    weights = dict.fromkeys(update.tensors, Fraction(update.cases))
    return Averaging(state.sent, state.memory, add_weighted(state.total, update.tensors, weights))


def take_means(state: Averaging) -> Tensors:
    """Return the global tensors with each that was summed replaced by its mean, in the dtype it had; the round is over
    and its state must not be used any more.
    """
    tensors = copy_tensors(state.sent)
    for name, block, mean in read_means(state.total):
        tensors[name].reshape(-1)[block] = mean
    close_sum(state.total)
    return tensors


def _finish(state: Averaging) -> Outcome:
    tensors = take_means(state)
    return Outcome(tensors, {}, measure_step(state.sent, tensors))
