"""Averaging with momentum at the server (Hsu, Qi, Brown 2019): v <- beta v + (mean - W), W <- W + eta v.

`memory` is v, as momentum.NAME, float32. The step is taken as mean + (eta - 1)(mean - W) + eta beta v, which is the
same number and, with eta = 1 and no momentum yet, the mean to the last bit.
"""

from functools import partial

import numpy as np

from prostafed.common.aggregation import MomentumParameters
from prostafed.common.settings import Settings
from prostafed.server.aggregation.aggregator import Aggregator, Outcome, copy_tensors, measure_step, select_floating
from prostafed.server.aggregation.exact import read_means
from prostafed.server.aggregation.fedavg import Averaging, add_by_cases, start_averaging


def build(name: str, parameters: Settings) -> Aggregator:
    """Return averaging with momentum; `parameters` are MomentumParameters."""
    assert isinstance(parameters, MomentumParameters)
    return Aggregator(init=start_averaging, add=add_by_cases, finish=partial(_finish, parameters))


def _finish(parameters: MomentumParameters, state: Averaging) -> Outcome:
    eta, beta = parameters.server_learning_rate, parameters.momentum
    tensors = copy_tensors(state.sent)
    momentum = copy_tensors(state.memory) or {
        f"momentum.{name}": np.zeros(array.shape, np.float32) for name, array in select_floating(state.sent).items()
    }
    for name, block, mean in read_means(state.total):
        update = mean - state.sent[name].reshape(-1)[block]
        v = momentum[f"momentum.{name}"].reshape(-1)[block]  # a view
        tensors[name].reshape(-1)[block] = mean + (eta - 1) * update + (eta * beta) * v.astype(np.float64)
        v[:] = beta * v.astype(np.float64) + update
    return Outcome(tensors, momentum, measure_step(state.sent, tensors))
