"""Intensities: percentile clip and z-score, per sequence."""

import numpy as np
import numpy.typing as npt


def normalise(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `volume` clipped to its 0.5 and 99.5 percentiles, then scaled to mean 0 and standard deviation 1.

    As in the PI-CAI baseline (Bosma et al. 2023). A constant volume becomes zeros.
    """
    low, high = np.percentile(volume, (0.5, 99.5))
    clipped = np.clip(volume, low, high)
    deviation = clipped.std()
    if deviation == 0:
        return np.zeros_like(volume)
    return np.asarray((clipped - clipped.mean()) / deviation, dtype=np.float32)
