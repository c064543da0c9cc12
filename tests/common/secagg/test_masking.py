import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy.stats import kstest

from prostafed.common.secagg.masking import Masks, apply_masks
from prostafed.common.tensors import Tensors

KEYS = [bytes([number]) * 32 for number in range(4)]


def make(dtype: str, *sizes: int) -> Tensors:
    return {f"t{number}": np.zeros(size, dtype) for number, size in enumerate(sizes)}


def read_stream(key: bytes, size: int) -> bytes:
    return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor().update(bytes(size))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("sizes", [(1,), (5, 0, 3), (70_001, 33_000, 2)])
def test_the_stream_goes_on_from_tensor_to_tensor(dtype: str, sizes: tuple[int, ...]) -> None:
    tensors = make(dtype, *sizes)
    apply_masks(tensors, Masks(add=(KEYS[1],)))
    content = b"".join(tensors[name].tobytes() for name in sorted(tensors))
    assert content == read_stream(KEYS[1], len(content))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_what_is_added_and_taken_off_leaves_nothing(dtype: str) -> None:
    tensors = make(dtype, 40_000, 3)
    before = {name: array.copy() for name, array in tensors.items()}
    apply_masks(tensors, Masks(add=(KEYS[0], KEYS[1]), take=(KEYS[2],)))
    assert not np.array_equal(tensors["t0"], before["t0"])
    apply_masks(tensors, Masks(add=(KEYS[2],), take=(KEYS[1], KEYS[0])))
    for name, array in tensors.items():
        np.testing.assert_array_equal(array, before[name])


def test_tensors_keep_their_form() -> None:
    tensors = {"t": np.arange(6, dtype=np.uint32).reshape(2, 3)}
    apply_masks(tensors, Masks(add=(KEYS[0],)))
    assert tensors["t"].shape == (2, 3)
    assert tensors["t"][0, 0] == int.from_bytes(read_stream(KEYS[0], 4), "little")


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("value", [0, 1, 40_000])
def test_what_is_masked_looks_random(dtype: str, value: int) -> None:
    tensors = {"t": np.full(50_000, value, dtype)}
    apply_masks(tensors, Masks(add=(KEYS[3],)))
    assert kstest(tensors["t"] / np.iinfo(dtype).max, "uniform").pvalue > 1e-3
    assert len(np.unique(tensors["t"] & 255)) == 256
