"""The server's half of SCAFFOLD (Karimireddy et al. 2020, algorithm 1), S the sites that answered, N the federation:

    W <- W + eta_g / |S| sum_k (W_k - W)        c <- c + 1 / N sum_k (c_k' - c_k)

As in the paper every site counts once, whatever its cases. A site sends its W_k and, as control.NAME, the change of
its control variate; `send` gives it c, and `memory` is c, both as control.NAME in the dtype of the tensor. A tensor
that some sites did not send is averaged over those that did; the change of its c is divided by N all the same.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np

from prostafed.common.aggregation import AGGREGATORS, ScaffoldParameters
from prostafed.common.settings import Settings
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import (
    Aggregator,
    Outcome,
    Update,
    copy_tensors,
    measure_step,
    select_floating,
)
from prostafed.server.aggregation.exact import ExactSum, add_weighted, open_sum, read_means
from prostafed.server.exchange.admission import RejectedError


@dataclass(frozen=True)
class Controlled:
    """A round in the making: one running sum over the tensors and the changes of the control variates."""

    sent: Tensors
    control: Tensors
    sites: int
    total: ExactSum


def build(name: str, parameters: Settings) -> Aggregator:
    """Return the server's half; `parameters` are ScaffoldParameters."""
    assert isinstance(parameters, ScaffoldParameters)
    prefix, finish = AGGREGATORS[name].sends, partial(_finish, parameters.server_learning_rate)
    send = partial(read_control, prefix)
    return Aggregator(init=partial(_start, prefix), add=partial(_add, prefix), finish=finish, send=send)


def read_control(prefix: str, tensors: Tensors, memory: Tensors) -> Tensors:
    """Return c as control.NAME for each floating tensor; zeros in the stage's first round."""
    if memory:
        return memory
    return {f"{prefix}{name}": np.zeros_like(array) for name, array in select_floating(tensors).items()}


def _start(prefix: str, tensors: Tensors, memory: Tensors, sites: int = 0) -> Controlled:
    control = read_control(prefix, tensors, memory)
    return Controlled(tensors, control, sites, open_sum({**tensors, **control}))


def _add(prefix: str, state: Controlled, update: Update) -> Controlled:
    tensors = select_floating(update.tensors)
    for name in tensors:
        if not name.startswith(prefix):
            control = tensors.get(f"{prefix}{name}")
            if control is None or control.shape != tensors[name].shape:
                found = "nothing" if control is None else f"shape {list(control.shape)}"
                raise RejectedError("WRONG_TENSORS", f"expected {prefix}{name} like {name}, found {found}")
        elif name.removeprefix(prefix) not in tensors:
            raise RejectedError("WRONG_TENSORS", f"{name} came without {name.removeprefix(prefix)}")
    once = dict.fromkeys(tensors, Fraction(1))
    return Controlled(state.sent, state.control, state.sites, add_weighted(state.total, tensors, once))


def _finish(eta: float, state: Controlled) -> Outcome:
    tensors, control = copy_tensors(state.sent), copy_tensors(state.control)
    for name, block, mean in read_means(state.total):
        if name in control:
            answered = state.total.replies[name]
            control[name].reshape(-1)[block] += mean * (answered / max(state.sites, answered))
        else:
            update = mean - state.sent[name].reshape(-1)[block]
            tensors[name].reshape(-1)[block] = mean + (eta - 1) * update
    return Outcome(tensors, control, measure_step(state.sent, tensors))
