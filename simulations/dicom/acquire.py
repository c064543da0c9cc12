"""The scans of one generated study: what a prostate protocol acquires, on the phantom's anatomy."""

from dataclasses import replace

import numpy as np

from prostafed.common.seeding import derive_seed
from prostafed.simulations.dicom.scan import FloatArray, Plane, Scan, Volume, place
from prostafed.simulations.phantom.case import GeneratedStudy
from prostafed.simulations.phantom.fields import Axes, make_axis
from prostafed.simulations.phantom.picai_layout import FIELD_OF_VIEW_MM, Placing, lay_axes, turn
from prostafed.simulations.phantom.scanner import acquire_signals, acquire_t2w, derive_maps

_SIDE_PIXEL_MM, _SIDE_SLICES = 0.9, 15  # sagittal and coronal T2W
_LOCALIZER_PIXEL_MM, _LOCALIZER_STEP_MM = 3.0, 15.0
_T2_REPETITION_MS, _DWI_REPETITION_MS = 5660.0, 3900.0


def acquire_scans(
    study: GeneratedStudy, placing: Placing, field_of_view_mm: float = FIELD_OF_VIEW_MM
) -> tuple[tuple[Scan, ...], Axes]:
    """Return localizer, T2W in three planes, DWI, ADC and where it is computed high b; and the axes of the axial T2W.

    With the seed and the placing of the PI-CAI layout the axial T2W, ADC and high b are that layout's own.
    """
    protocol = study.protocol
    fine = lay_axes(protocol.slice_mm, protocol.t2_in_plane_mm, field_of_view_mm, placing)
    t2w = acquire_t2w(study.anatomy, protocol, fine, _rng(study, "t2w"))
    scans = [
        Scan("localizer", "axial", _localize(study, placing, field_of_view_mm), 4.0, 20.0),
        Scan("t2w", "axial", (_place(t2w, fine, placing),), protocol.t2_echo_ms, _T2_REPETITION_MS),
        *(_look_from(plane, study, placing, field_of_view_mm) for plane in ("sagittal", "coronal")),
        *_diffuse(study, placing, field_of_view_mm),
    ]
    return tuple(scans), fine


def _diffuse(study: GeneratedStudy, placing: Placing, field_of_view_mm: float) -> list[Scan]:
    protocol = study.protocol
    coarse = lay_axes(protocol.slice_mm, protocol.dwi_in_plane_mm, field_of_view_mm, placing)
    signals, sigma = acquire_signals(study.anatomy, protocol, coarse, _rng(study, "dwi"))
    adc, high = derive_maps(signals, sigma, protocol)
    b_values = (*protocol.b_values, protocol.high_b) if protocol.high_b_acquired else protocol.b_values
    scale = np.float32(protocol.scale)

    def volume(values: FloatArray, b_value: float | None = None) -> Volume:
        return replace(_place(values, coarse, placing), b_value_s_per_mm2=b_value)

    echo, repetition, fitted = protocol.dwi_echo_ms, _DWI_REPETITION_MS, protocol.b_values
    acquired = tuple(volume(signal * scale, b) for signal, b in zip(signals, b_values, strict=True))
    scans = [
        Scan("dwi", "axial", acquired, echo, repetition),
        Scan("adc", "axial", (volume(adc),), echo, repetition, fitted),
    ]
    if not protocol.high_b_acquired:
        computed = (volume(high * scale, protocol.high_b),)
        scans.append(Scan("calculated", "axial", computed, echo, repetition, fitted))
    return scans


def _look_from(plane: Plane, study: GeneratedStudy, placing: Placing, field_of_view_mm: float) -> Scan:
    """T2W in another plane: thick slices along x or y."""
    protocol = study.protocol
    pixels = round(field_of_view_mm / _SIDE_PIXEL_MM)
    flat, across = (pixels, _SIDE_PIXEL_MM), (_SIDE_SLICES, protocol.slice_mm)
    axes = _lay(placing, (flat, flat, across) if plane == "sagittal" else (flat, across, flat))
    image = acquire_t2w(study.anatomy, protocol, axes, _rng(study, f"t2w {plane}"))
    return Scan("t2w", plane, (_place(image, axes, placing, plane),), protocol.t2_echo_ms, _T2_REPETITION_MS)


def _localize(study: GeneratedStudy, placing: Placing, field_of_view_mm: float) -> tuple[Volume, ...]:
    """Three thick slices in each plane."""
    flat, across = (round(field_of_view_mm / _LOCALIZER_PIXEL_MM), _LOCALIZER_PIXEL_MM), (3, _LOCALIZER_STEP_MM)
    sizes: dict[Plane, tuple[tuple[int, float], ...]] = {
        "axial": (across, flat, flat),
        "sagittal": (flat, flat, across),
        "coronal": (flat, across, flat),
    }
    volumes = []
    for plane, size in sizes.items():
        axes = _lay(placing, size)
        image = acquire_t2w(study.anatomy, study.protocol, axes, _rng(study, f"localizer {plane}"))
        volumes.append(_place(image, axes, placing, plane))
    return tuple(volumes)


def _lay(placing: Placing, sizes: tuple[tuple[int, float], ...]) -> Axes:
    """Return axes (z, y, x) of (size, step in mm) each, about the middle of the study's slices."""
    z, y, x = (make_axis(*size, float(middle)) for size, middle in zip(sizes, placing.center_mm, strict=True))
    return z, y, x


def _place(values: FloatArray, axes: Axes, placing: Placing, plane: Plane = "axial") -> Volume:
    z, y, x = (axis.astype(np.float64) for axis in axes)
    return place(plane, values, (z, y, x), turn(placing.tilt), placing.corner_mm)


def _rng(study: GeneratedStudy, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(study.seed, purpose))
