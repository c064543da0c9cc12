"""What is declared of a tensor decides before its bytes do; the wire as a whole: test_hostile_replies, test_wire."""

import numpy as np
import pytest

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.arrays import (
    MOST_ARRAYS,
    MOST_DIMENSIONS,
    Declared,
    Layout,
    Slot,
    join_arrays,
    read_arrays,
)

LAYOUT = Layout({"w": Slot(("float32",), (2, 3)), "places": Slot(("int32",), (4,), shorter=True)}, 40)


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("w", Declared("float64", (2, 3)), r"w is float64\[2, 3\], expected float32\[2, 3\]"),
        ("w", Declared("float32", (3, 2)), r"w is float32\[3, 2\], expected float32\[2, 3\]"),
        ("places", Declared("int32", (5,)), r"places is int32\[5\], expected int32\[4\] or shorter"),
        ("places", Declared("int32", (2, 2)), r"places is int32\[2, 2\], expected"),
    ],
)
def test_what_is_declared_otherwise_is_refused_before_it_is_read(name: str, declared: Declared, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        read_arrays({name: declared}, b"", LAYOUT)


def test_all_bytes_together_are_counted() -> None:
    sent = join_arrays({"w": np.ones((2, 3), np.float32), "places": np.arange(4, dtype=np.int32)})
    assert read_arrays(*sent, LAYOUT)["places"].tolist() == [0, 1, 2, 3]
    with pytest.raises(CheckpointError, match="hold 40 bytes, expected at most 39"):
        read_arrays(*sent, Layout(LAYOUT.slots, 39))


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"0", lambda content: b""])
def test_bytes_that_are_not_those_declared_are_refused(change: object) -> None:
    declared, content = join_arrays({"w": np.ones((2, 3), np.float32)})
    with pytest.raises(ValueError, match="and 32 are declared"):
        read_arrays(declared, change(content), LAYOUT)  # type: ignore[operator]


@pytest.mark.parametrize("dtype", ["object", "complex64", "float128", ">f4", "<U4", "O", "datetime64[s]"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match=r"^w$"):
        read_arrays({"w": Declared(dtype, (1,))}, bytes(16), None)


def test_tensors_come_back_as_they_were_and_aligned() -> None:
    rng = np.random.default_rng(0)
    sent = {
        "halves": rng.normal(size=(3, 5)).astype(np.float16),
        "nothing": np.zeros((0, 3), np.float32),
        "one": np.array(7, np.int64),
        "rows": rng.normal(size=(4, 6)).astype(np.float64).T,  # in another order of memory
        "small": rng.integers(0, 9, 7).astype(np.uint8),
    }
    read = read_arrays(*join_arrays(sent), None)
    assert read.keys() == sent.keys()
    for name, array in sent.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()
        assert read[name].flags.aligned


def test_where_no_layout_is_known_tensors_and_dimensions_are_counted() -> None:
    each = Declared("float32", (0,) * MOST_DIMENSIONS)
    many = dict.fromkeys((f"w{number}" for number in range(MOST_ARRAYS)), each)
    assert len(read_arrays(many, b"", None)) == MOST_ARRAYS
    with pytest.raises(CheckpointError, match=f"at most {MOST_ARRAYS} tensors"):
        read_arrays({**many, "more": each}, b"", None)
    with pytest.raises(ValueError, match="w"):
        read_arrays({"w": Declared("float32", (0,) * (MOST_DIMENSIONS + 1))}, b"", None)
