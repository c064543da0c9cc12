"""Overlap and volume of two masks."""

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.components import BoolVolume


def dice(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float | None:
    """Return 2 |A and B| / (|A| + |B|) of two masks of one shape, in [0, 1]; None where both are empty (Dice 1945)."""
    a, b = as_masks(predicted, true)
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else None


def volume_difference(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float | None:
    """Return ||A| - |B|| / |B| of a predicted mask A and the true mask B, 0 best; None where the true one is empty.

    The absolute relative volume difference of PROMISE12 (Litjens et al. 2014) as a fraction, without a sign, so that
    a mean over cases does not cancel.
    """
    a, b = as_masks(predicted, true)
    true_voxels = int(np.count_nonzero(b))
    return abs(int(np.count_nonzero(a)) - true_voxels) / true_voxels if true_voxels else None


def as_masks(predicted: npt.ArrayLike, true: npt.ArrayLike) -> tuple[BoolVolume, BoolVolume]:
    """Return both as bool arrays; raises ValueError where their shapes differ."""
    a, b = np.asarray(predicted, dtype=bool), np.asarray(true, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"Expected two masks of one shape, found {a.shape} and {b.shape}.")
    return a, b
