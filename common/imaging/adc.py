"""ADC from diffusion-weighted signals, and the high-b image computed from it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

MAX_FIT_B_VALUE_S_PER_MM2 = 1000.0  # above it, kurtosis and the noise floor bias the fit
MIN_FIT_SPAN_S_PER_MM2 = 400.0
MAX_ADC = 4000.0


def fit_adc(signals: FloatArray, b_values_s_per_mm2: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Return (ADC in 1e-6 mm2/s clipped to [0, 4000], S0) by log-linear least squares, S_b = S0 exp(-b ADC).

    `signals` is (b, z, y, x), one volume per b-value. Uses b <= 1000 only, leaving out b < 50 where a b of 50-100
    exists (perfusion). Dark voxels are kept: zeroing them biases high ADC. Raises ValueError if there is not one volume
    per b-value, or if the b-values used span under 400.
    """
    b_values = np.asarray(b_values_s_per_mm2, dtype=np.float64)
    if b_values.shape != signals.shape[:1]:
        raise ValueError(f"An ADC fit needs one volume per b-value, found {len(signals)} and {b_values.size}.")
    used = _choose_b_values(b_values)
    b = b_values[used]
    if b.size < 2 or b.max() - b.min() < MIN_FIT_SPAN_S_PER_MM2:
        raise ValueError(
            f"An ADC fit needs b-values up to 1000 that span at least 400 s/mm2, found {b_values.tolist()}, "
            f"of which it would use {b.tolist()}."
        )
    log_signal = np.log(np.maximum(signals[used], 1e-3))
    weights = (b - b.mean()) / np.sum((b - b.mean()) ** 2)
    slope = np.tensordot(weights, log_signal, axes=1)
    adc = np.clip(-slope * 1e6, 0.0, MAX_ADC)
    s0 = np.exp(log_signal.mean(axis=0) + adc * 1e-6 * b.mean())
    return adc.astype(np.float32), s0.astype(np.float32)


def choose_fit_b_values(b_values_s_per_mm2: Sequence[float]) -> tuple[float, ...]:
    """Return those b-values `fit_adc` uses: up to 1000, and from 50 on where there is one of 50-100."""
    b_values = np.asarray(b_values_s_per_mm2, dtype=np.float64)
    return tuple(b_values[_choose_b_values(b_values)].tolist())


def compute_high_b(s0: FloatArray, adc: FloatArray, b_value_s_per_mm2: float) -> FloatArray:
    """Return S0 exp(-b ADC), the high-b image a scanner did not acquire; `adc` in 1e-6 mm2/s."""
    return np.asarray(s0 * np.exp(-b_value_s_per_mm2 * adc * 1e-6), dtype=np.float32)


def _choose_b_values(b_values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    used = b_values <= MAX_FIT_B_VALUE_S_PER_MM2
    if np.any((b_values >= 50) & (b_values <= 100)):
        used &= b_values >= 50
    return used
