"""Arrays as they come by wire: held against what was asked for before a byte of them is decoded.

An array travels as a .npy file beside a declared dtype and shape. The declaration is compared with the layout, the
file's header with the declaration, its length with both; then the bytes are the array, without a copy. numpy's own
reader takes zip archives, pickles and headers of any length, and allocates what a header claims.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prostafed.common.errors import CheckpointError

if TYPE_CHECKING:
    from prostafed.common.tensors import Tensors  # torch, which a link does without

_DTYPES = {  # as .npy names them -> as they are declared
    b"<f2": "float16",
    b"<f4": "float32",
    b"<f8": "float64",
    b"|i1": "int8",
    b"<i4": "int32",
    b"<i8": "int64",
    b"|u1": "uint8",
}
_DECLARED = frozenset(_DTYPES.values())
_HEADER = re.compile(rb"\{'descr': '([<|]\w\d)', 'fortran_order': False, 'shape': \(([0-9, ]{0,200})\), \} *\n")
_MAGIC, _LONGEST_HEADER = b"\x93NUMPY\x01\x00", 512
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,300}")
MOST_ARRAYS, MOST_DIMENSIONS = 20_000, 8  # where no layout is known


class Wired(Protocol):
    """An array in a message."""

    dtype: str
    shape: tuple[int, ...]
    stype: str
    data: bytes


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


def read_arrays(arrays: Mapping[str, Wired], layout: Layout | None) -> "Tensors":
    """Return the arrays by name, read-only, over the bytes of the message.

    Raises CheckpointError where they are not what `layout` takes (names may be missing; None takes any tensors), and
    ValueError for bytes that are not those of the declared array. No text of the message is repeated.
    """
    _check_declared(arrays, layout)
    return {name: _read(name, array) for name, array in arrays.items()}


def _check_declared(arrays: Mapping[str, Wired], layout: Layout | None) -> None:
    if layout is None:
        if len(arrays) > MOST_ARRAYS or not all(_NAME.fullmatch(name) for name in arrays):
            raise CheckpointError(f"Expected at most {MOST_ARRAYS} tensors with names of letters, digits, dots.")
    elif unknown := len(arrays.keys() - layout.slots.keys()):
        raise CheckpointError(f"{unknown} of {len(arrays)} tensors were not asked for. Compare the releases.")
    for name, array in arrays.items():
        dtype, shape = array.dtype, array.shape
        sound = dtype in _DECLARED and len(shape) <= MOST_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
        if not sound:
            raise ValueError(name)
        if layout is not None and not layout.slots[name].takes(dtype, shape):
            slot = layout.slots[name]
            raise CheckpointError(
                f"{name} is {dtype}{list(shape)}, expected {' or '.join(slot.dtypes)}"
                f"{list(slot.shape)}{' or shorter' if slot.shorter else ''}. Compare the study and the releases."
            )
    if layout is not None and (size := sum(map(_count_bytes, arrays.values()))) > layout.most_bytes:
        raise CheckpointError(f"The tensors hold {size} bytes, expected at most {layout.most_bytes}.")


def _count_bytes(array: Wired) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize


def _read(name: str, array: Wired) -> np.ndarray[Any, Any]:
    start = len(_MAGIC) + 2 + int.from_bytes(array.data[len(_MAGIC) : len(_MAGIC) + 2], "little")
    header = _HEADER.fullmatch(array.data[len(_MAGIC) + 2 : min(start, _LONGEST_HEADER)])
    if array.stype != "numpy.ndarray" or not array.data.startswith(_MAGIC) or header is None:
        raise ValueError(f"{name} does not begin as a .npy file of a plain array")
    dtype, shape = _DTYPES.get(header[1]), tuple(int(n) for n in header[2].split(b",") if n.strip())
    if (dtype, shape, len(array.data) - start) != (array.dtype, array.shape, _count_bytes(array)):
        raise ValueError(f"{name} is not the array that was declared")
    return np.frombuffer(array.data, np.dtype(array.dtype), offset=start).reshape(array.shape)
