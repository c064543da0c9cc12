"""FedNova (Wang et al. 2020) for plain SGD at the sites, where a site's normalised gradient is its update divided by
its steps tau_k. With p_k = n_k / n:

    W <- W + (sum_k p_k tau_k) sum_k p_k (W_k - W) / tau_k

which is W + c (M - W), M the mean of the W_k with weights n_k / tau_k and c = sum_k p_k tau_k sum_k p_k / tau_k, at
least 1. c is computed in fractions: where all sites took as many steps it is 1 and the result federated averaging's,
to the last bit. Sums run over the sites that sent a tensor.
"""

from dataclasses import dataclass
from fractions import Fraction

from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, Update, copy_tensors, measure_step
from prostafed.server.aggregation.exact import ExactSum, add_weighted, open_sum, read_means
from prostafed.server.exchange.admission import RejectedError


@dataclass(frozen=True)
class Normalising:
    """A round in the making: the sum with weights n_k / tau_k and, per tensor, the sums of n_k and of n_k tau_k."""

    sent: Tensors
    total: ExactSum
    cases: dict[str, int]
    case_steps: dict[str, int]


def build(name: str, parameters: Settings) -> Aggregator:
    """Return FedNova."""
    return Aggregator(init=_start, add=_add, finish=_finish)


def _start(tensors: Tensors, memory: Tensors, sites: int = 0) -> Normalising:
    return Normalising(tensors, open_sum(tensors), dict.fromkeys(tensors, 0), dict.fromkeys(tensors, 0))


def _add(state: Normalising, update: Update) -> Normalising:
    if update.steps < 1:
        raise RejectedError("NO_STEPS", f"expected at least 1 optimiser step, found {update.steps}")
    weights = dict.fromkeys(update.tensors, Fraction(update.cases, update.steps))
    total = add_weighted(state.total, update.tensors, weights)
    return Normalising(
        state.sent,
        total,
        {name: n + update.cases * (name in weights) for name, n in state.cases.items()},
        {name: n + update.cases * update.steps * (name in weights) for name, n in state.case_steps.items()},
    )


def _finish(state: Normalising) -> Outcome:
    tensors = copy_tensors(state.sent)
    for name, block, mean in read_means(state.total):
        stretch = float(state.case_steps[name] * state.total.weights[name] / state.cases[name] ** 2)
        tensors[name].reshape(-1)[block] = mean + (stretch - 1) * (mean - state.sent[name].reshape(-1)[block])
    return Outcome(tensors, {}, measure_step(state.sent, tensors))
