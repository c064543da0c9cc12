"""Tensors as they come by wire: held against what was asked for before a byte of them is read.

All tensors of a message travel as one run of bytes beside a declaration: names, dtypes and shapes. The declaration is
compared with the layout, the number of bytes with the declaration; then the bytes are the tensors, without a copy. One
run of bytes and not one per tensor, since each part of a message is a request of its own, and a round trip.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prostafed.common.errors import CheckpointError
from prostafed.common.tensors import Tensors

_DTYPES = frozenset({"float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "uint32"})
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,300}")
_ALIGNED = 16  # each tensor begins at a multiple of so many bytes
MOST_ARRAYS, MOST_DIMENSIONS = 20_000, 8  # where no layout is known


@dataclass(frozen=True)
class Declared:
    """What is said of a tensor before its bytes are read."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Slot:
    """What may come under a name: one of these dtypes in this shape; `shorter` takes lists of fewer values as well."""

    dtypes: tuple[str, ...]
    shape: tuple[int, ...]
    shorter: bool = False

    def takes(self, dtype: str, shape: tuple[int, ...]) -> bool:
        """Whether an array of this dtype and shape may come."""
        fits = len(shape) == 1 and shape[0] <= self.shape[0] if self.shorter else shape == self.shape
        return fits and dtype in self.dtypes


@dataclass(frozen=True)
class Layout:
    """All that may come: slots by name, and the most bytes of them together."""

    slots: Mapping[str, Slot]
    most_bytes: int


NOTHING = Layout({}, 0)


def join_arrays(tensors: Tensors) -> tuple[dict[str, Declared], bytes]:
    """Return the declaration and the bytes of `tensors`, in the order of their names."""
    declared, parts = {}, list[bytes | memoryview]()
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        declared[name] = Declared(str(array.dtype), array.shape)
        parts += [array.data.cast("B") if array.size else b"", bytes(-array.nbytes % _ALIGNED)]  # views: no copy yet
    return declared, b"".join(parts)


def read_arrays(declared: Mapping[str, Declared], content: bytes, layout: Layout | None) -> Tensors:
    """Return the tensors by name, read-only, over the bytes of the message.

    Raises CheckpointError where they are not what `layout` takes (names may be missing; None takes any tensors), and
    ValueError where `content` has not the bytes that are declared. No text of the message is repeated.
    """
    _check_declared(declared, layout)
    starts, end = {}, 0
    for name, each in declared.items():
        starts[name], end = end, end + each.size + -each.size % _ALIGNED
    if end != len(content):
        raise ValueError(f"{len(content)} bytes, and {end} are declared")
    return {
        name: np.frombuffer(content, each.dtype, math.prod(each.shape), starts[name]).reshape(each.shape)
        if each.size
        else np.zeros(each.shape, each.dtype)
        for name, each in declared.items()
    }


def _check_declared(declared: Mapping[str, Declared], layout: Layout | None) -> None:
    if layout is None:
        if len(declared) > MOST_ARRAYS or not all(_NAME.fullmatch(name) for name in declared):
            raise CheckpointError(f"Expected at most {MOST_ARRAYS} tensors with names of letters, digits, dots.")
    elif unknown := len(declared.keys() - layout.slots.keys()):
        raise CheckpointError(f"{unknown} of {len(declared)} tensors were not asked for. Compare the releases.")
    for name, each in declared.items():
        dtype, shape = each.dtype, each.shape
        if dtype not in _DTYPES or len(shape) > MOST_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(name)
        if layout is not None and not layout.slots[name].takes(dtype, shape):
            slot = layout.slots[name]
            raise CheckpointError(
                f"{name} is {dtype}{list(shape)}, expected {' or '.join(slot.dtypes)}"
                f"{list(slot.shape)}{' or shorter' if slot.shorter else ''}. Compare the study and the releases."
            )
    if layout is not None and (size := sum(each.size for each in declared.values())) > layout.most_bytes:
        raise CheckpointError(f"The tensors hold {size} bytes, expected at most {layout.most_bytes}.")
