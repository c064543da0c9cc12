"""What is declared of an array decides before its bytes do; the wire as a whole: test_hostile_replies, test_wire."""

import numpy as np
import pytest
from flwr.app import Array

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.arrays import MOST_ARRAYS, MOST_DIMENSIONS, Layout, Slot, read_arrays

LAYOUT = Layout({"w": Slot(("float32",), (2, 3)), "places": Slot(("int32",), (4,), shorter=True)}, 40)


def declare(dtype: str, *shape: int) -> Array:
    """An array without bytes: whoever decodes it says that it is broken, which is a ValueError."""
    return Array(dtype, shape, "numpy.ndarray", b"")


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        ("w", declare("float64", 2, 3), r"w is float64\[2, 3\], expected float32\[2, 3\]"),
        ("w", declare("float32", 3, 2), r"w is float32\[3, 2\], expected float32\[2, 3\]"),
        ("places", declare("int32", 5), r"places is int32\[5\], expected int32\[4\] or shorter"),
        ("places", declare("int32", 2, 2), r"places is int32\[2, 2\], expected"),
    ],
)
def test_what_is_declared_otherwise_is_refused_before_it_is_decoded(name: str, array: Array, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        read_arrays({name: array}, LAYOUT)


def test_all_bytes_together_are_counted() -> None:
    arrays = {"w": Array(np.ones((2, 3), np.float32)), "places": Array(np.arange(4, dtype=np.int32))}
    assert read_arrays(arrays, LAYOUT)["places"].tolist() == [0, 1, 2, 3]
    with pytest.raises(CheckpointError, match="hold 40 bytes, expected at most 39"):
        read_arrays(arrays, Layout(LAYOUT.slots, 39))


def test_where_no_layout_is_known_arrays_and_dimensions_are_counted() -> None:
    array = Array(np.ones((1,) * MOST_DIMENSIONS, np.float32))
    many = dict.fromkeys((f"w{number}" for number in range(MOST_ARRAYS)), array)
    assert len(read_arrays(many, None)) == MOST_ARRAYS
    with pytest.raises(CheckpointError, match=f"at most {MOST_ARRAYS} tensors"):
        read_arrays({**many, "more": array}, None)
    with pytest.raises(ValueError, match="w"):
        read_arrays({"w": Array(np.ones((1,) * (MOST_DIMENSIONS + 1), np.float32))}, None)
