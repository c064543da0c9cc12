"""Overlap of two masks."""

import numpy as np
import numpy.typing as npt


def dice(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float | None:
    """Return 2 |A and B| / (|A| + |B|) of two masks of one shape, in [0, 1]; None where both are empty (Dice 1945)."""
    a, b = np.asarray(predicted, dtype=bool), np.asarray(true, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"Expected two masks of one shape, found {a.shape} and {b.shape}.")
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else None
