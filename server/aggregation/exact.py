"""Weighted sums of tensors that do not depend on the order in which they are added, in constant memory.

Floating-point sums depend on their order. Here a product w x is cut into a multiple of 2**-30 and, of the rest, a
multiple of 2**-81; both are added as 64-bit integers, which does not. The sum is turned into a float once, at the end.
float32 values times whole weights (below 2**29) are kept whole down to a last bit of 2**-81, values above 2**-57 or
7e-18 in any case, so that the mean of equal values is that value; below, the error stays under 2**-82 a summand.
float64 values are good to a relative 2**-52.

The integers are had without a conversion: adding 1.5 x 2**52 to a float64 below 2**51 rounds it to whole numbers, and
then its bits, read as an integer, count them; adding 3 to a rest of at most 1/2 does the same in units of 2**-51. What
the constants' own bits add is taken off at the end. (An old trick; the rest is exact by Sterbenz 1974.)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from prostafed.common.tensors import BLOCK, Tensors, cut
from prostafed.server.aggregation.aggregator import Float64, select_floating
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.exchange.parallel import for_each

Int64 = npt.NDArray[np.int64]

COARSE, FINE = 2.0**30, 2.0**51  # units per 1, units per coarse unit
LARGEST = 2.0**21  # of weight times value: 2**51 coarse units
MOST_REPLIES = 2**11  # of which the integers hold the sum
_ROUND_COARSE, _ROUND_FINE = 1.5 * 2.0**52, 3.0
_COARSE_BITS, _FINE_BITS = (int(np.array(rounder).view(np.int64)) for rounder in (_ROUND_COARSE, _ROUND_FINE))


@dataclass(frozen=True)
class ExactSum:
    """Per floating tensor: the flat integer sums, raised by the rounding constants' bits per reply, the weights' total
    and the number of replies that held it.
    """

    coarse: dict[str, Int64]
    fine: dict[str, Int64]
    weights: dict[str, Fraction]
    replies: dict[str, int]


_spare: list[ExactSum] = []  # arrays of the last sum: memory the system has to give anew costs more than the sum itself


def open_sum(tensors: Tensors) -> ExactSum:
    """Return the empty sum over the floating ones of `tensors`."""
    sizes = {name: array.size for name, array in select_floating(tensors).items()}
    arrays = [_take_zeros(sizes) for _ in range(2)]
    return ExactSum(arrays[0], arrays[1], dict.fromkeys(sizes, Fraction(0)), dict.fromkeys(sizes, 0))


def close_sum(total: ExactSum) -> None:
    """Leave the arrays of `total`, which must not be used any more, to the next sum."""
    _spare[:] = [total]


def _take_zeros(sizes: Mapping[str, int]) -> dict[str, Int64]:
    """Return zeros of these sizes, in arrays of a closed sum where they fit."""
    if _spare and {name: array.size for name, array in _spare[0].coarse.items()} == sizes:
        arrays = _spare[0].coarse
        _spare[:] = [replace(_spare[0], coarse=_spare[0].fine)] if arrays is not _spare[0].fine else []
        for_each(lambda name: arrays[name].fill(0), arrays)
        return arrays
    return {name: np.zeros(size, np.int64) for name, size in sizes.items()}


def add_weighted(
    total: ExactSum, tensors: Tensors, weights: Mapping[str, Fraction], divisors: Mapping[str, Fraction] | None = None
) -> ExactSum:
    """Add weight times tensor, for each of `tensors` that `total` has, and its divisor, by default the weight, to what
    the sum will be divided by. The arrays of `total` are reused.

    Raises RejectedError, before anything is added, where a product is too large for the integers or there are too many.
    """
    chosen = {name: tensors[name].reshape(-1) for name in total.coarse if name in tensors}

    def check(name: str) -> None:
        _check_size(name, chosen[name], float(weights[name]), total.replies[name])

    def add(name: str) -> None:
        _add_flat(total.coarse[name], total.fine[name], chosen[name], float(weights[name]))

    for_each(check, chosen)
    for_each(add, chosen)
    counted = weights if divisors is None else divisors
    return ExactSum(
        total.coarse,
        total.fine,
        {name: weight + counted[name] if name in chosen else weight for name, weight in total.weights.items()},
        {name: count + (name in chosen) for name, count in total.replies.items()},
    )


def read_means(total: ExactSum) -> Iterator[tuple[str, slice, Float64]]:
    """Yield (name, block of the flat tensor, sum / total weight in that block), names in order; tensors whose weights
    come to 0, such as those no site sent, are left out.
    """
    for name in sorted(total.coarse):
        if total.weights[name] == 0:
            continue
        coarse_bits, fine_bits = (_wrap(total.replies[name] * bits) for bits in (_COARSE_BITS, _FINE_BITS))
        for block in cut(total.coarse[name].size):
            mean = (total.coarse[name][block] - coarse_bits).astype(np.float64) / COARSE
            mean += (total.fine[name][block] - fine_bits).astype(np.float64) / (COARSE * FINE)
            mean /= float(total.weights[name])
            yield name, block, mean


def _check_size(name: str, flat: npt.NDArray[np.floating], weight: float, replies: int) -> None:
    if replies == MOST_REPLIES:
        raise RejectedError("TOO_MANY", f"{name} is the sum of {MOST_REPLIES} replies already")
    largest = max(float(flat.max(initial=0.0)), -float(flat.min(initial=0.0)))
    if not largest * abs(weight) < LARGEST:  # so written, it holds for NaN as well
        raise RejectedError(
            "TOO_LARGE",
            f"{name} holds {largest:.3g}, too large for an exact sum; expected below "
            f"{LARGEST / max(abs(weight), 1 / LARGEST):.3g} at its weight of {weight:.6g}",
        )


def _add_flat(coarse: Int64, fine: Int64, flat: npt.NDArray[np.floating], weight: float) -> None:
    exact, whole = np.empty(BLOCK), np.empty(BLOCK)
    for block in cut(flat.size):
        x, rounded = exact[: block.stop - block.start], whole[: block.stop - block.start]
        np.multiply(flat[block], weight * COARSE, out=x, dtype=np.float64)
        np.add(x, _ROUND_COARSE, out=rounded)
        coarse[block] += rounded.view(np.int64)
        np.subtract(rounded, _ROUND_COARSE, out=rounded)
        np.subtract(x, rounded, out=x)
        np.add(x, _ROUND_FINE, out=x)
        fine[block] += x.view(np.int64)


def _wrap(value: int) -> np.int64:
    """Return `value` modulo 2**64, as the integer sums have wrapped."""
    return np.int64((value + 2**63) % 2**64 - 2**63)
