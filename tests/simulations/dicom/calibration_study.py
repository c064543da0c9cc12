"""A calibration object as DICOM: tubes of known ADC, for tests of whoever reads them.

Three tubes of ADC 700, 1300 and 1700 (1e-6 mm2/s) stand in a body of 1000 at its middle, in an ellipsoid that is called
the gland. A part of the tube of 700 is called the lesion; the gland behind its middle is PZ, before it TZ.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from prostafed.common.shell.files import make_folder, write_image
from prostafed.simulations.dicom.layout import write_study
from prostafed.simulations.dicom.scan import FloatArray, Placement, Scan, Vector, Volume, place
from prostafed.simulations.dicom.style import Identity
from prostafed.simulations.dicom.styles import STYLES
from prostafed.simulations.phantom.masks import Mask
from prostafed.simulations.phantom.picai_layout import turn
from tests.simulations.dicom.rtstruct import write_rtstruct
from tests.simulations.dicom.seg import write_seg

TUBES = ((700.0, (-14.0, 8.0)), (1300.0, (14.0, 8.0)), (1700.0, (0.0, -10.0)))  # ADC, centre (x, y) in mm
TUBE_RADIUS_MM = 8.0
MASK_LABELS = {"gland": ("Prostate",), "zones": ("PZ", "TZ"), "lesion": ("Lesion",)}
_GLAND_MM = (24.0, 24.0, 28.0)  # semi-axes (z, y, x)
_BODY_ADC = 1000.0
_BODY_SLOPE_PER_MM = 0.005  # of the body's values towards the head: a volume upside down is another volume
_CORNER_MM = np.array([-37.5, 12.25, -60.75])
_TILT = 0.21  # radians, about the x axis


@dataclass(frozen=True)
class Calibration:
    """What was written: files, and what is true of them."""

    folder: Path  # of the DICOM files
    masks: dict[str, Path]  # "gland.nii.gz", "gland.seg.dcm", "gland.rtstruct.dcm", ...
    truth: dict[str, Mask]  # gland, zones, lesion on the T2 grid
    t2w: Placement
    series: dict[int, Scan]
    tubes: tuple[tuple[float, Vector], ...]  # ADC, centre in mm (LPS)


def write_calibration_study(
    out: Path,
    style: str,
    *,
    b_values: tuple[float, ...] = (50.0, 400.0, 800.0, 1400.0),
    with_adc: bool = True,
    noise: float = 0.0,
    seed: int = 0,
) -> Calibration:
    """Write a calibration study in one of STYLES to out/dicom, its masks in three formats to out/masks.

    `noise` is Rician, relative to the body's signal at b = 0 (SNR = 1 / noise); without `with_adc` there is no map.
    """
    rng = np.random.default_rng(seed)
    direction = turn(_TILT)
    t2_axes, dwi_axes = _lay_axes(22, 3.0, 168, 0.8), _lay_axes(22, 3.0, 68, 2.0)
    t2w = _place(_paint(t2_axes, (400.0, (250.0, 700.0, 900.0))), t2_axes, direction)
    adc = _paint(dwi_axes, (_BODY_ADC, tuple(tube for tube, _ in TUBES)))
    signals = [_add_noise(3000 * np.exp(-b * adc * 1e-6), 3000 * noise, rng) for b in b_values]
    volumes = tuple(
        Volume(volume.values, volume.placement, b)
        for volume, b in ((_place(signal, dwi_axes, direction), b) for signal, b in zip(signals, b_values, strict=True))
    )
    low = tuple(b for b in b_values if b <= 1000)
    scans = [Scan("t2w", "axial", (t2w,), 104, 5660), Scan("dwi", "axial", volumes, 63, 2700)]
    if with_adc:
        scans.append(Scan("adc", "axial", (_place(adc, dwi_axes, direction),), 63, 2700, low))
    identity = Identity(
        f"calibration-{style}-{seed}", "GENERATED-0", "GENERATED^Calibration", "GEN-0", 50, date(2020, 1, 1)
    )
    make_folder(out)
    series = write_study(out / "dicom", identity, STYLES[style], scans)
    truth = _make_masks(t2_axes)
    masks = _write_masks(out, truth, t2w.placement)
    centers = tuple((tube, _CORNER_MM + direction @ np.array([x, y, 0.0])) for tube, (x, y) in TUBES)
    return Calibration(out / "dicom", masks, truth, t2w.placement, series, centers)


def _lay_axes(slices: int, slice_mm: float, pixels: int, pixel_mm: float) -> tuple[Vector, Vector, Vector]:
    def axis(size: int, step: float) -> Vector:
        return np.asarray((np.arange(size) - (size - 1) / 2) * step, dtype=np.float64)

    return axis(slices, slice_mm), axis(pixels, pixel_mm), axis(pixels, pixel_mm)


def _place(values: FloatArray, axes: tuple[Vector, Vector, Vector], direction: Vector) -> Volume:
    return place("axial", values.astype(np.float32), axes, direction, _CORNER_MM)


def _tubes(axes: tuple[Vector, Vector, Vector]) -> list[npt.NDArray[np.bool_]]:
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return [((x - at_x) ** 2 + (y - at_y) ** 2 + 0 * z <= TUBE_RADIUS_MM**2) for _, (at_x, at_y) in TUBES]


def _paint(axes: tuple[Vector, Vector, Vector], values: tuple[float, tuple[float, ...]]) -> FloatArray:
    body, tubes = values
    slope = (body * _BODY_SLOPE_PER_MM * axes[0])[:, None, None]
    painted = np.broadcast_to(body + slope, [axis.size for axis in axes]).astype(np.float32)
    for inside, value in zip(_tubes(axes), tubes, strict=True):
        painted[inside] = value
    return painted


def _make_masks(axes: tuple[Vector, Vector, Vector]) -> dict[str, Mask]:
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = np.asarray((z / _GLAND_MM[0]) ** 2 + (y / _GLAND_MM[1]) ** 2 + (x / _GLAND_MM[2]) ** 2 <= 1)
    zones = np.where(inside, np.where(y + 0 * x > 0, 1, 2), 0)
    lesion = inside & _tubes(axes)[0] & (z > -6) & (z < 14)
    return {name: each.astype(np.uint8) for name, each in (("gland", inside), ("zones", zones), ("lesion", lesion))}


def _write_masks(out: Path, truth: dict[str, Mask], placement: Placement) -> dict[str, Path]:
    folder = make_folder(out / "masks")
    sources = sorted((out / "dicom" / "0001").iterdir())
    paths = {}
    for name, mask in truth.items():
        for suffix in ("nii.gz", "seg.dcm", "rtstruct.dcm"):
            paths[f"{name}.{suffix}"] = folder / f"{name}.{suffix}"
        _write_nifti(paths[f"{name}.nii.gz"], mask, placement)
        write_seg(paths[f"{name}.seg.dcm"], mask, sources, MASK_LABELS[name])
        write_rtstruct(paths[f"{name}.rtstruct.dcm"], mask, placement, sources, MASK_LABELS[name])
    return paths


def _write_nifti(path: Path, mask: Mask, placement: Placement) -> None:
    """Write a mask of any labels; the suffix may be that of any format SimpleITK writes."""
    image = sitk.GetImageFromArray(mask)
    rows_mm, columns_mm = placement.pixel_mm
    image.SetSpacing((columns_mm, rows_mm, placement.slice_mm))
    image.SetOrigin(placement.origin_mm.tolist())
    axes = (placement.along_row, placement.along_column, placement.normal)
    image.SetDirection(np.stack(axes, axis=1).ravel().tolist())
    write_image(path, image)


def _add_noise(signal: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    if not sigma:
        return signal
    real, imaginary = rng.normal(0, sigma, (2, *signal.shape))
    return np.asarray(np.hypot(signal + real, imaginary), dtype=np.float32)
