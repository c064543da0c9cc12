"""Federated averaging (McMahan et al. 2017): sum_k (n_k / n) W_k, the same to the last bit in whatever order replies
arrive.

Floating-point sums depend on their order. Here every weighted tensor is rounded to a multiple of 2**-36 and added as a
64-bit integer, which does not; the sum is divided and cast back once. The rounding, 1.5e-11, lies far below a float32
weight's own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.messages import Reply
from prostafed.common.tensors import Tensors
from prostafed.server.admission import RejectedError
from prostafed.server.aggregation.aggregator import Aggregator

UNIT = 2.0**36
LIMIT = 2.0**61  # of one site's share in the integer sum; two bits are left for adding sites


@dataclass(frozen=True)
class ExactSum:
    """The running sum: constant memory, however many sites."""

    sums: dict[str, npt.NDArray[np.int64]]
    cases: int
    replies: int


def build() -> Aggregator:
    """Return federated averaging, weighted by cases."""
    return Aggregator(init=_init, add=_add, finish=_finish)


def _init(tensors: Tensors) -> ExactSum:
    return ExactSum({name: np.zeros(array.shape, np.int64) for name, array in tensors.items()}, cases=0, replies=0)


def _add(state: ExactSum, reply: Reply) -> ExactSum:
    shares = {}
    for name, array in reply.tensors.items():
        share = array.astype(np.float64) * (reply.cases * UNIT)
        if np.abs(share).max(initial=0.0) + np.abs(state.sums[name]).max(initial=0) > LIMIT:
            raise RejectedError("TOO_LARGE", f"{name} holds values too large to be averaged exactly")
        shares[name] = np.rint(share).astype(np.int64)
    for name, integers in shares.items():  # only now: a rejected reply must leave no trace
        state.sums[name] += integers
    return ExactSum(state.sums, state.cases + reply.cases, state.replies + 1)


def _finish(state: ExactSum, tensors: Tensors) -> tuple[Tensors, dict[str, float]]:
    averaged = {
        name: (state.sums[name].astype(np.float64) / (UNIT * state.cases)).astype(array.dtype)
        for name, array in tensors.items()
    }
    squared = sum(float(np.sum((averaged[name].astype(np.float64) - tensors[name]) ** 2)) for name in tensors)
    return averaged, {"update_norm": squared**0.5}
