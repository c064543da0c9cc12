"""Intensities: percentile clip and z-score, per sequence."""

import numpy as np
import numpy.typing as npt


def normalise(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `volume` clipped to its 0.5 and 99.5 percentiles, then scaled to mean 0 and standard deviation 1.

    As in the PI-CAI baseline (Bosma et al. 2023). A volume that is constant between those percentiles becomes zeros.
    """
    low, high = np.percentile(volume, (0.5, 99.5)).tolist()
    if high - low <= 1e-5 * np.abs(volume).max():  # rounding, such as that of an interpolated constant, is no contrast
        return np.zeros_like(volume)
    clipped = np.clip(volume, low, high) - np.float32(low)  # near zero, where float32 tells small differences
    mean, deviation = clipped.mean(dtype=np.float64), clipped.std(dtype=np.float64)
    return np.asarray((clipped - np.float32(mean)) / np.float32(deviation), dtype=np.float32)
