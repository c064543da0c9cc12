"""Gaussian noise from bytes: those of the system's generator at a hospital, of a seeded one in a simulation.

torch's generator on a CPU takes 32 bits of its seed, which can be tried one after the other, and its sequence can be
told from what it gave. Neither is good enough to hide a patient.
"""

import secrets
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prostafed.common.seeding import derive_seed

# number of bytes -> as many random ones
Source = Callable[[int], bytes]
# number of a step -> what it draws from
Sources = Callable[[int], Source]
_SUMMED = 4


def open_sources(seed: int | None, *parts: str | int) -> Sources:
    """Return the source of each step. Without a seed no two give the same; with a seed and `parts` they can be
    repeated, and hide nothing.
    """
    if seed is None:
        return lambda step: secrets.token_bytes
    return lambda step: np.random.default_rng(derive_seed(seed, "noise", *parts, step)).bytes


def draw_uniform(source: Source, *shape: int) -> npt.NDArray[np.float64]:
    """Return values in [0, 1), each a multiple of 2^-53."""
    count = int(np.prod(shape))
    whole = np.frombuffer(source(8 * count), "<u8") >> np.uint64(11)
    return whole.reshape(shape).astype(np.float64) * np.float64(2.0**-53)


def draw_gaussian(source: Source, *shape: int) -> npt.NDArray[np.float64]:
    """Return standard normal values.

    Each is half the sum of four: what a single one tells by its last digits is then out of reach (Holohan and Braghin
    2021, section 5.1), as in Opacus's secure mode. The four come in pairs, by Box and Muller.
    """
    count = int(np.prod(shape))
    uniform = draw_uniform(source, _SUMMED, count)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[: _SUMMED // 2]))
    angle = 2 * np.pi * uniform[_SUMMED // 2 :]
    summed: npt.NDArray[np.float64] = (radius * (np.cos(angle) + np.sin(angle))).sum(axis=0) / 2
    return summed.reshape(shape)
