"""Updates as whole numbers: their sum is the same in any order, and with masks that cancel in it.

    q = round(w d / step)       d: a value's change in a round; w: the site's cases / the cases of all who take part

modulo 2**16 or 2**32. Since the shares w come to 1, so do the changes: |sum of q| <= range / step, however many sites,
and no bit is kept free for the sum. `step` is a tensor's own, worked out from the global model alone: its range is a
power of two, at least FACTOR times its largest weight and at least FLOOR. A change beyond the range is refused at the
site, which is what bounds a single update where nobody sees it. Integer tensors do not travel: the global ones stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DivergedError
from prostafed.common.exchange.arrays import Layout, Slot
from prostafed.common.tensors import Tensors, cut

Array = npt.NDArray[Any]
MOST_SITES = 64  # whose roundings, half a step each, the range leaves room for


@dataclass(frozen=True)
class Form:
    """How values become whole numbers of `dtype`."""

    dtype: type[np.unsignedinteger[Any]]
    signed: type[np.signedinteger[Any]]
    factor: float  # of a tensor's largest weight that a change may come to
    floor: float  # that a change may come to in any tensor

    @property
    def half(self) -> int:
        """Whole numbers above 0."""
        return int(np.iinfo(self.signed).max) + 1


# 16 bits are few: their range is narrower, so that their steps are finer.
FORMS: Mapping[str, Form] = {
    "fixed16": Form(np.uint16, np.int16, factor=1.0, floor=0.25),
    "fixed32": Form(np.uint32, np.int32, factor=4.0, floor=1.0),
}


def select_combined(tensors: Mapping[str, Array]) -> Tensors:
    """Return the tensors that travel, sorted by name: the floating ones."""
    return {name: tensors[name] for name in sorted(tensors) if np.issubdtype(tensors[name].dtype, np.floating)}


def list_whole_slots(sent: Mapping[str, Array], rule: str) -> Layout:
    """Return what travels of tensors of the names, shapes and dtypes of those in `sent`, for the wire."""
    dtype, combined = np.dtype(FORMS[rule].dtype), select_combined(sent)
    slots = {name: Slot((dtype.name,), array.shape) for name, array in combined.items()}
    return Layout(slots, sum(array.size for array in combined.values()) * dtype.itemsize)


def find_step(sent: Array, rule: str) -> float:
    """Return the change that the whole number 1 stands for, a power of two."""
    form = FORMS[rule]
    largest = max(float(sent.max(initial=0)), -float(sent.min(initial=0)))
    reach = max(form.floor, form.factor * largest)
    return float(2.0 ** np.ceil(np.log2(reach))) / form.half


def to_integers(sent: Tensors, trained: Tensors, share: Fraction, rule: str) -> Tensors:
    """Return a site's part of the sum: of each floating tensor in `sent` the change to `trained`, times the site's
    `share` of all cases, in new arrays.

    Raises DivergedError where a change is not finite or beyond the range.
    """
    return {name: _to_whole(name, array, trained[name], share, rule) for name, array in select_combined(sent).items()}


def _to_whole(name: str, sent: Array, trained: Array, share: Fraction, rule: str) -> Array:
    form, step, weight = FORMS[rule], find_step(sent, rule), float(share)
    most = step * (form.half - MOST_SITES)
    whole = np.empty(sent.shape, form.dtype)
    before, after, out = sent.reshape(-1), trained.reshape(-1), whole.reshape(-1)
    for block in cut(before.size):
        change = after[block].astype(np.float64) - before[block]
        if not np.abs(change).max(initial=0.0) <= most:  # so written, it holds for NaN as well
            raise DivergedError(
                f"{name} changed by {np.abs(change).max():.3g} in this round; rule {rule} carries {most:.3g} at most. "
                "Nothing was sent. If training did not run away, the study needs a lower learning_rate, fixed32 in the "
                "place of fixed16 or, where noise for a site is that large, a lower clip."
            )
        out[block] = np.rint(change * (weight / step)).astype(form.signed).view(form.dtype)
    return whole


def open_total(sent: Tensors, rule: str) -> Tensors:
    """Return the sum of no updates."""
    return {name: np.zeros(array.shape, FORMS[rule].dtype) for name, array in select_combined(sent).items()}


def to_mean(sent: Tensors, total: Tensors, weight: Fraction, rule: str) -> Tensors:
    """Return the tensors of `sent` moved by the mean change: `total` over `weight`, the shares of those in it."""
    form, mean = FORMS[rule], {name: np.array(array) for name, array in sent.items()}
    for name, summed in total.items():
        unit = find_step(sent[name], rule) / float(weight)
        before, whole, out = sent[name].reshape(-1), summed.reshape(-1).view(form.signed), mean[name].reshape(-1)
        for block in cut(before.size):
            out[block] = before[block] + whole[block].astype(np.float64) * unit
    return mean
