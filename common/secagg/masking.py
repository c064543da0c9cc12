"""Streams of random bytes, added to whole numbers modulo 2**16 or 2**32: with one of them, what is seen is random.

A stream is ChaCha20's under a key that is used for it alone. AES-256 in counter mode is as fast where the processor
helps (40 MB in 6 ms, both) and slower where it does not. The streams of all keys are added block by block, while the
block is in the processor's cache. Numbers are little-endian, tensors follow each other in the order of their names.
"""

import sys
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from prostafed.common.tensors import Tensors

_BLOCK_BYTES = 1 << 16
_COUNTER = bytes(16)


@dataclass(frozen=True)
class Masks:
    """The keys of streams to add and of streams to take off."""

    add: tuple[bytes, ...] = ()
    take: tuple[bytes, ...] = ()


def apply_masks(tensors: Tensors, masks: Masks) -> None:
    """Add and take off streams, in place: all of `tensors` are of one unsigned dtype and contiguous."""
    assert sys.byteorder == "little"
    operations = [(key, np.add) for key in masks.add] + [(key, np.subtract) for key in masks.take]
    streams = [(Cipher(algorithms.ChaCha20(key, _COUNTER), None).encryptor(), each) for key, each in operations]
    zeros, buffer = memoryview(bytes(_BLOCK_BYTES)), bytearray(_BLOCK_BYTES)
    for name in sorted(tensors):
        flat = tensors[name].reshape(-1)
        assert np.shares_memory(flat, tensors[name]) or not flat.size
        values = np.frombuffer(buffer, flat.dtype)
        for start in range(0, flat.size, len(values)):
            block = flat[start : start + len(values)]
            for stream, operation in streams:
                stream.update_into(zeros[: block.nbytes], buffer)
                operation(block, values[: block.size], out=block)


def add_to(total: Tensors, tensors: Tensors) -> None:
    """Add whole numbers to a sum, in place, modulo what its dtype holds; both have the same names and shapes."""
    for name, array in total.items():
        np.add(array, tensors[name], out=array)
