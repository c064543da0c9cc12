"""FedAdagrad, FedAdam and FedYogi (Reddi et al. 2021, algorithm 2), Delta = mean - W over the sites' means by cases:

    m <- beta_1 m + (1 - beta_1) Delta
    v <- v + Delta^2                                    fedadagrad
         v - (1 - beta_2) Delta^2 sign(v - Delta^2)     fedyogi
         beta_2 v + (1 - beta_2) Delta^2                fedadam
    W <- W + eta m / (sqrt(v) + tau)

As in the paper v starts at tau^2 and nothing is corrected for bias; Flower starts v at 0 and corrects FedAdam's. Equal
updates do not return themselves: a step has the direction and scale the optimiser gives it, and an update of zero
moves nothing in the first round. `memory` is m and v, as m.NAME and v.NAME, float32. A tensor that no site sent keeps
its moments.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from prostafed.common.aggregation import AdagradParameters, AdamParameters
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import (
    Aggregator,
    Float64,
    Outcome,
    copy_tensors,
    measure_step,
    select_floating,
)
from prostafed.server.aggregation.exact import read_means
from prostafed.server.aggregation.fedavg import Averaging, add_by_cases, start_averaging

# (v, Delta squared, beta_2) -> new v
SecondMoment = Callable[[Float64, Float64, float], Float64]


def adagrad(v: Float64, squared: Float64, beta_2: float) -> Float64:
    """Return the sum of squares; beta_2 has no part in it."""
    return v + squared


def yogi(v: Float64, squared: Float64, beta_2: float) -> Float64:
    """Return v moved towards the squares by at most (1 - beta_2) of them."""
    return v - (1 - beta_2) * squared * np.sign(v - squared)


def adam(v: Float64, squared: Float64, beta_2: float) -> Float64:
    """Return the running mean of squares."""
    return beta_2 * v + (1 - beta_2) * squared


SECOND_MOMENTS: dict[str, SecondMoment] = {"fedadagrad": adagrad, "fedyogi": yogi, "fedadam": adam}


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the optimiser called `name`; `parameters` are AdagradParameters, with a beta_2 for fedadam and fedyogi."""
    assert isinstance(parameters, AdagradParameters)
    finish = partial(_finish, SECOND_MOMENTS[name], parameters)
    return Aggregator(init=start_averaging, add=add_by_cases, finish=finish)


def _finish(second_moment: SecondMoment, parameters: AdagradParameters, state: Averaging) -> Outcome:
    eta, beta_1, tau = parameters.server_learning_rate, parameters.beta_1, parameters.tau
    beta_2 = parameters.beta_2 if isinstance(parameters, AdamParameters) else 0.0
    tensors = copy_tensors(state.sent)
    memory = copy_tensors(state.memory) or _first_moments(state.sent, tau)
    for name, block, mean in read_means(state.total):
        x = state.sent[name].reshape(-1)[block].astype(np.float64)
        stored_m, stored_v = (memory[f"{moment}.{name}"].reshape(-1)[block] for moment in "mv")  # views
        m = beta_1 * stored_m.astype(np.float64) + (1 - beta_1) * (mean - x)
        v = second_moment(stored_v.astype(np.float64), (mean - x) ** 2, beta_2)
        tensors[name].reshape(-1)[block] = x + eta * m / (np.sqrt(v) + tau)
        stored_m[:], stored_v[:] = m, v
    return Outcome(tensors, memory, measure_step(state.sent, tensors))


def _first_moments(tensors: Tensors, tau: float) -> Tensors:
    floating = select_floating(tensors).items()
    first = {f"m.{name}": np.zeros(array.shape, np.float32) for name, array in floating}
    return first | {f"v.{name}": np.full(array.shape, tau**2, np.float32) for name, array in floating}
