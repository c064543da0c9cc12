"""What a site sends for its trained tensors, and how the server has them whole again: rules none, float16 and topk.

float16   the differences from what was sent, rounded to 11 bits, those below 3e-8 to 0; a tensor with a difference
          beyond float16's 65504 goes whole
topk      the largest differences of all tensors together, as their places in the flat tensor (`places.NAME`, int32,
          ascending) and values (`values.NAME`, float16 or, where float16 does not reach, the tensor's own dtype).
          What was not sent and what rounding took is the residual, added to the next round's differences (error
          feedback: Stich, Cordonnier, Jaggi 2018; Karimireddy et al. 2019)

Integer tensors, and those that are float16 anyway under the rule float16, always go whole. Pure functions of numpy.
"""

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.arrays import Layout, Slot
from prostafed.common.tensors import Tensors, count_bytes

Array = npt.NDArray[Any]
RULES = ("none", "float16", "topk")
PLACES, VALUES = "places.", "values."
_LARGEST = float(np.finfo(np.float16).max)


def encode(sent: Tensors, trained: Tensors, rule: str, fraction: float, residual: Tensors) -> tuple[Tensors, Tensors]:
    """Return (payload, new residual) of `trained`, tensors trained from those of the same names in `sent`.

    `fraction` in (0, 1]: share of the differences that topk sends, at least one. `residual`: what the last call
    returned, {} at first; it stays {} but with topk, where it has the shapes and dtypes of the floating tensors.
    """
    assert rule in RULES
    if rule == "none":
        return dict(trained), {}
    if rule == "float16":
        return {name: _halve(sent[name], array) for name, array in trained.items()}, {}
    owed = {
        name: array.astype(np.float64) - sent[name] + residual.get(name, 0.0)
        for name, array in trained.items()
        if _is_floating(array)
    }
    payload = {name: array for name, array in trained.items() if not _is_floating(array)}
    kept: Tensors = {}
    for name, places in _find_largest(owed, fraction):
        values = owed[name].reshape(-1)[places]
        values = values.astype(np.float16 if _fits(values) else trained[name].dtype)
        payload |= {f"{PLACES}{name}": places.astype(np.int32), f"{VALUES}{name}": values}
        received = _add_sparse(sent[name], places, values)
        # Not what was sent but what arrives is taken off: the sum is rounded once more at the server.
        left = owed[name] - (received.astype(np.float64) - sent[name])
        kept[name] = np.where(np.isfinite(left), left, 0.0).astype(trained[name].dtype)
    return payload, kept


def list_slots(sent: Tensors, rule: str, fraction: float) -> Layout:
    """Return what `encode` can make of tensors of the names, shapes and dtypes of those in `sent`, for the wire."""
    assert rule in RULES
    slots: dict[str, Slot] = {}
    floating = {name: array for name, array in sent.items() if _is_floating(array)}
    most_values = _count_kept(sum(array.size for array in floating.values()), fraction) if rule == "topk" else 0
    for name, array in sent.items():
        own = str(array.dtype)
        if name in floating and rule == "topk":
            most = (min(array.size, most_values),)
            slots |= {f"{PLACES}{name}": Slot(("int32",), most, shorter=True)}
            slots |= {f"{VALUES}{name}": Slot(("float16", own), most, shorter=True)}
        else:
            slots[name] = Slot((own, "float16") if name in floating and rule == "float16" else (own,), array.shape)
    sparse = most_values * (4 + max((array.itemsize for array in floating.values()), default=0))
    whole = count_bytes({name: sent[name] for name in sent if name in slots})
    return Layout(slots, sparse + whole)


def decode(sent: Tensors, payload: Tensors, rule: str) -> Tensors:
    """Return the tensors that `payload` stands for, with the shapes and dtypes of those in `sent`.

    Names may be some of those of `sent`. Raises CheckpointError for a name that is not among them, a shape or dtype the
    rule does not give, and places that are not ascending or lie outside their tensor.
    """
    assert rule in RULES
    return dict(sorted(_decode_each(sent, payload, rule)))


def _decode_each(sent: Tensors, payload: Tensors, rule: str) -> Iterator[tuple[str, Array]]:
    for key, array in payload.items():
        sparse = rule == "topk" and key.startswith((PLACES, VALUES))
        name = key.split(".", 1)[1] if sparse else key
        if name not in sent:
            raise CheckpointError(f"{key} is sent, but {name} is not part of the model. Compare the study's model.")
        if sparse and f"{PLACES if key.startswith(VALUES) else VALUES}{name}" not in payload:
            raise CheckpointError(f"{key} came alone: places and values of a tensor belong together.")
        if sparse and key.startswith(VALUES):
            places = payload[f"{PLACES}{name}"]
            _check_places(name, places, array, sent[name])
            yield name, _add_sparse(sent[name], places, array)
        elif not sparse:
            yield name, _read_whole(name, sent[name], array, rule)


def _read_whole(name: str, sent: Array, array: Array, rule: str) -> Array:
    halved = rule == "float16" and _is_floating(sent) and array.dtype == np.float16 != sent.dtype
    whole = array.dtype == sent.dtype and not (rule == "topk" and _is_floating(sent))
    if array.shape != sent.shape or not (halved or whole):
        raise CheckpointError(
            f"{name} is {array.dtype}{list(array.shape)}, which rule {rule} does not make of "
            f"{sent.dtype}{list(sent.shape)}. Site and server must run the same study and release."
        )
    return np.add(sent, array, dtype=sent.dtype) if halved else array


def _check_places(name: str, places: Array, values: Array, sent: Array) -> None:
    shapes_fit = places.ndim == 1 and places.shape == values.shape
    dtypes_fit = _is_floating(sent) and places.dtype == np.int32 and values.dtype in (np.float16, sent.dtype)
    if not (shapes_fit and dtypes_fit):
        raise CheckpointError(
            f"{name} has places {places.dtype}{list(places.shape)} and values {values.dtype}{list(values.shape)}; "
            f"expected one list of int32 and as many float16 or {sent.dtype} for a floating tensor."
        )
    if len(places) and (places[0] < 0 or places[-1] >= sent.size or not (places[1:] > places[:-1]).all()):
        raise CheckpointError(f"{name} has places that do not ascend from 0 to at most {sent.size - 1}.")


def _find_largest(owed: dict[str, npt.NDArray[np.float64]], fraction: float) -> Iterator[tuple[str, Array]]:
    """Yield (name, ascending places) of the largest magnitudes over all tensors; of equal ones the first by name and
    place.
    """
    names = sorted(owed)
    sizes = np.abs(np.concatenate([owed[name].reshape(-1) for name in names])) if names else np.zeros(0)
    sizes[np.isnan(sizes)] = np.inf  # sent first, for admission to see
    count = _count_kept(len(sizes), fraction)
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count] if count else 0.0
    chosen = sizes > least
    chosen[np.flatnonzero(sizes == least)[: count - int(chosen.sum())]] = True
    start = 0
    for name in names:
        yield name, np.flatnonzero(chosen[start : start + owed[name].size])
        start += owed[name].size


def _count_kept(values: int, fraction: float) -> int:
    return min(values, max(1, ceil(fraction * values)))


def _halve(sent: Array, trained: Array) -> Array:
    """Return the difference in float16, or `trained` itself where that has no meaning or no room."""
    if not _is_floating(trained) or trained.dtype == np.float16:
        return trained
    difference = trained.astype(np.float64) - sent
    return difference.astype(np.float16) if _fits(difference) else trained


def _fits(values: Array) -> bool:
    return bool(np.abs(values).max(initial=0.0) <= _LARGEST)  # false for NaN: admission sees it as it is


def _add_sparse(sent: Array, places: Array, values: Array) -> Array:
    flat = sent.reshape(-1).copy()
    flat[places] += values.astype(sent.dtype)
    return flat.reshape(sent.shape)


def _is_floating(array: Array) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))
