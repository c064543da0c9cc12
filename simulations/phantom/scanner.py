"""Scanners: how a vendor's protocol turns anatomy into T2W, ADC and high-b images on the scanner's own grids."""

import numpy as np

from prostafed.common.imaging.adc import compute_high_b, fit_adc
from prostafed.simulations.phantom.anatomy import Anatomy
from prostafed.simulations.phantom.fields import Axes, FloatArray
from prostafed.simulations.phantom.paint import paint
from prostafed.simulations.phantom.protocol import Protocol
from prostafed.simulations.phantom.shapes import Points, make_points
from prostafed.simulations.phantom.tissue import TISSUES, Tissue, b0_signal, t2w_signal

Generator = np.random.Generator

DISTORTION_REACH_MM = 9.0  # over which the shift beside gas falls to 1/e


def acquire_t2w(anatomy: Anatomy, protocol: Protocol, axes: Axes, rng: Generator) -> FloatArray:
    """Return the T2W image (z, y, x) on `axes`, in the vendor's arbitrary unit."""

    def channels(tissue: Tissue) -> tuple[float, ...]:
        return (t2w_signal(tissue, protocol.t2_echo_ms, protocol.t2_factor),)

    image = paint(anatomy, make_points(axes), channels, (1.0,), 0.4 + protocol.t2_in_plane_mm)[0]
    image *= coil_sensitivity(axes, protocol.bias)
    image = _smooth_in_plane(image, protocol.smoothing)
    sigma = protocol.t2_noise * channels(TISSUES["tz"])[0]
    return add_rician_noise(image, sigma, rng) * np.float32(protocol.scale)


def acquire_diffusion(
    anatomy: Anatomy, protocol: Protocol, axes: Axes, rng: Generator
) -> tuple[FloatArray, FloatArray]:
    """Return (ADC in 1e-6 mm2/s, high-b image), both (z, y, x) on `axes`: `derive_maps` of `acquire_signals`."""
    adc, high = derive_maps(*acquire_signals(anatomy, protocol, axes, rng), protocol)
    return adc, high * np.float32(protocol.scale)


def acquire_signals(anatomy: Anatomy, protocol: Protocol, axes: Axes, rng: Generator) -> tuple[FloatArray, float]:
    """Return (signals (b, z, y, x) on `axes`, sigma of the noise at b = 0), before `protocol.scale`.

    Each b-value of the protocol, and the high one where it is acquired, gives S0 exp(-b ADC) with Rician noise.
    """

    def channels(tissue: Tissue) -> tuple[float, ...]:
        return b0_signal(tissue, protocol.dwi_echo_ms, protocol.t2_factor), tissue.adc

    points, kept = _distort(anatomy, protocol, axes)
    s0, adc = paint(anatomy, points, channels, (0.5, 0.6), protocol.dwi_in_plane_mm)
    s0 *= coil_sensitivity(axes, protocol.bias) * kept
    sigma = protocol.dwi_noise * channels(TISSUES["tz"])[0]
    acquired = (*protocol.b_values, protocol.high_b) if protocol.high_b_acquired else protocol.b_values
    # More averages at higher b, as every protocol has it.
    signals = [
        add_rician_noise(s0 * np.exp(adc * np.float32(-b * 1e-6)), sigma / np.sqrt(1 + b / 150), rng) for b in acquired
    ]
    return np.stack(signals), sigma


def derive_maps(signals: FloatArray, sigma: float, protocol: Protocol) -> tuple[FloatArray, FloatArray]:
    """Return (ADC in 1e-6 mm2/s, high-b image) as the scanner does: the ADC fitted to the signals' low b-values."""
    low = signals[: len(protocol.b_values)]
    fitted, fitted_s0 = fit_adc(low, protocol.b_values)
    high = signals[-1] if protocol.high_b_acquired else compute_high_b(fitted_s0, fitted, protocol.high_b)
    if protocol.zeroes_dark_adc:
        fitted[low[0] < 4 * sigma] = 0
    return fitted, high


def coil_sensitivity(axes: Axes, bias: tuple[float, float, float, float]) -> FloatArray:
    """Return the receive coils' sensitivity, (1, y, x): brighter near the coils in front and behind."""
    tilt_y, tilt_x, bowl_y, bowl_x = (np.float32(each) for each in bias)
    y, x = axes[1] / np.float32(90), axes[2] / np.float32(90)
    along_y, along_x = np.exp(tilt_y * y + bowl_y * y * y), np.exp(tilt_x * x + bowl_x * x * x)
    return np.asarray(along_y[None, :, None] * along_x[None, None, :], dtype=np.float32)


def add_rician_noise(signal: FloatArray, sigma: float, rng: Generator) -> FloatArray:
    """Return |signal + complex Gaussian noise| (Gudbjartsson 1995): sigma sqrt(pi/2) without signal."""
    real = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma) + signal
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.sqrt(real * real + imaginary * imaginary), dtype=np.float32)


def _distort(anatomy: Anatomy, protocol: Protocol, axes: Axes) -> tuple[Points, FloatArray]:
    """Return where echo-planar voxels really lie, shifted along y beside rectal gas, and the signal kept (0-1)."""
    points = make_points(axes)
    outside = np.maximum(-anatomy.rectum.depth(points), 0)
    nearness = np.exp(outside * np.float32(-1 / DISTORTION_REACH_MM)) * np.float32(anatomy.gas)
    shift = nearness * np.float32(protocol.distortion_mm)
    kept = 1 - np.float32(0.08 * min(protocol.distortion_mm, 6.0)) * nearness * nearness
    return Points(axes, points.y - shift, protocol.distortion_mm + 0.5), kept


def _smooth_in_plane(image: FloatArray, weight: float) -> FloatArray:
    side, middle = np.float32(weight), np.float32(1 - 2 * weight)
    for axis in (1, 2):
        smoothed = image * middle
        first = [slice(None)] * 3
        last = [slice(None)] * 3
        first[axis], last[axis] = slice(None, -1), slice(1, None)
        smoothed[tuple(first)] += side * image[tuple(last)]
        smoothed[tuple(last)] += side * image[tuple(first)]
        image = smoothed
    return image
