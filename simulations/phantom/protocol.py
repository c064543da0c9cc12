"""Protocols: a vendor's usual look, and what one study on one scanner was acquired with."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prostafed.simulations.phantom.patient import get_center
from prostafed.simulations.phantom.settings import Scanner

Generator = np.random.Generator


@dataclass(frozen=True)
class Protocol:
    """One study's acquisition, every number given; noise as a part of the TZ signal, of T2W and of b = 0."""

    t2_in_plane_mm: float
    slice_mm: float
    dwi_in_plane_mm: float
    t2_echo_ms: float
    dwi_echo_ms: float
    t2_factor: float  # on every T2, above 1 at lower field strength
    t2_noise: float
    dwi_noise: float
    bias: tuple[float, float, float, float]  # exponents of the coil's sensitivity at 90 mm: y, x, y^2, x^2
    smoothing: float  # weight of each in-plane neighbour in T2W; negative sharpens
    b_values: tuple[float, ...]
    high_b: float
    high_b_acquired: bool
    distortion_mm: float
    zeroes_dark_adc: bool  # the vendor's map is 0 where there is no signal
    scale: float  # of stored intensities


# What each vendor's images usually look like; ours, after PI-RADS v2.1 protocols and common vendor defaults.
VENDORS: dict[str, dict[str, Any]] = {
    "siemens": {
        "t2_echo_ms": 101.0, "dwi_echo_ms": 68.0, "coil_bias": 0.30, "t2_noise": 0.07, "dwi_noise": 0.045,
        "smoothing": 0.04, "dwi_in_plane_mm": 2.0, "b_values": (50.0, 400.0, 800.0),
        "high_b": 1400.0, "high_b_source": "computed",
        "distortion_mm": 2.5, "zeroes_dark_adc": True, "scale": 900.0,
    },
    "ge": {
        "t2_echo_ms": 118.0, "dwi_echo_ms": 76.0, "coil_bias": 0.45, "t2_noise": 0.10, "dwi_noise": 0.055,
        "smoothing": -0.05, "dwi_in_plane_mm": 1.6, "b_values": (0.0, 800.0),
        "high_b": 1400.0, "high_b_source": "acquired",
        "distortion_mm": 4.0, "zeroes_dark_adc": False, "scale": 5200.0,
    },
    "philips": {
        "t2_echo_ms": 110.0, "dwi_echo_ms": 72.0, "coil_bias": 0.12, "t2_noise": 0.06, "dwi_noise": 0.048,
        "smoothing": 0.12, "dwi_in_plane_mm": 1.37, "b_values": (0.0, 100.0, 400.0, 800.0),
        "high_b": 1400.0, "high_b_source": "acquired",
        "distortion_mm": 3.0, "zeroes_dark_adc": True, "scale": 1800.0,
    },
    "uih": {
        "t2_echo_ms": 92.0, "dwi_echo_ms": 70.0, "coil_bias": 0.25, "t2_noise": 0.09, "dwi_noise": 0.050,
        "smoothing": 0.0, "dwi_in_plane_mm": 1.8, "b_values": (50.0, 1000.0),
        "high_b": 1500.0, "high_b_source": "computed",
        "distortion_mm": 3.0, "zeroes_dark_adc": False, "scale": 3000.0,
    },
}  # fmt: skip


def resolve_scanner(scanner: Scanner) -> Scanner:
    """Return `scanner` with the vendor's values where it says None; grids the centre decides stay None."""
    look = VENDORS[scanner.vendor]
    usual = {
        "coil_bias": look["coil_bias"],
        "noise": 1.0,
        "dwi_in_plane_mm": look["dwi_in_plane_mm"],
        "b_values_s_per_mm2": look["b_values"],
        "high_b_value_s_per_mm2": look["high_b"],
        "high_b_source": look["high_b_source"],
        "distortion_mm": look["distortion_mm"],
    }
    return replace(scanner, **{name: value for name, value in usual.items() if getattr(scanner, name) is None})


def draw_protocol(scanner: Scanner, center: str, rng: Generator) -> Protocol:
    """Return the protocol of one study: the scanner's settings, the centre's grids, and what varies from day to day."""
    full, look = resolve_scanner(scanner), VENDORS[scanner.vendor]
    grids = get_center(center).t2_grids
    counts = np.array([count for _, _, count in grids], dtype=float)
    in_plane, thickness, _ = grids[rng.choice(len(grids), p=counts / counts.sum())]
    field_noise = 3.0 / full.field_strength_t
    daily = np.exp(rng.normal(0, 0.15, size=2)) * full.noise * field_noise
    tilt_y, tilt_x, bowl_y, bowl_x = rng.normal((0.15, 0.0, 1.3, 0.5), (0.35, 0.35, 0.3, 0.25)) * float(
        full.coil_bias or 0
    )
    return Protocol(
        t2_in_plane_mm=full.t2_in_plane_mm or in_plane,
        slice_mm=full.slice_thickness_mm or thickness,
        dwi_in_plane_mm=float(full.dwi_in_plane_mm or 2.0),
        t2_echo_ms=look["t2_echo_ms"],
        dwi_echo_ms=look["dwi_echo_ms"],
        t2_factor=(3.0 / full.field_strength_t) ** 0.15,
        t2_noise=look["t2_noise"] * float(daily[0]),
        dwi_noise=look["dwi_noise"] * float(daily[1]),
        bias=(float(tilt_y), float(tilt_x), float(bowl_y), float(bowl_x)),
        smoothing=look["smoothing"],
        b_values=full.b_values_s_per_mm2 or (),
        high_b=float(full.high_b_value_s_per_mm2 or 0),
        high_b_acquired=full.high_b_source == "acquired",
        distortion_mm=float(full.distortion_mm or 0) * full.field_strength_t / 3.0,
        zeroes_dark_adc=look["zeroes_dark_adc"],
        scale=look["scale"] * float(np.exp(rng.normal(0, 0.1))),
    )
