"""Slices to one volume: sorted by position along their normal, or a refusal that says where the stack is broken.

No reader of series does this for us: SimpleITK's joins three b-values to one volume of 60 slices and makes a wrong
spacing of a missing one, without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from prostafed.client.findings import Severity, SourceError
from prostafed.client.ingest.images.pixels import read_pixels
from prostafed.client.ingest.records import Slice

MAX_GAP_DEVIATION = 0.05  # of the median gap, plus
MAX_GAP_DEVIATION_MM = 0.01  # the rounding of positions
MAX_DRIFT_MM = 0.5  # sideways, over the stack
MAX_COSINE_DEVIATION = 1e-3
MAX_SPACING_DEVIATION = 1e-3  # of the pixel spacing
_ABSURD_MM = 1e6  # NaN and infinity fail the comparison with it too, as they must: NaN passes every refusal below

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Order:
    """Where slices belong: `indices` from the first position along the normal to the last."""

    indices: tuple[int, ...]
    spacing_mm: float  # median gap
    axes: Floats  # (3, 3): columns along a row, along a column, along the normal; a right-handed frame


def stack_volume(slices: Sequence[Slice], name: str) -> sitk.Image:
    """Return `slices` as one volume, float32, rescaled, in mm LPS.

    `name` is a sequence: a broken "t2w" refuses the study (severity F), of any other this source is skipped (S).
    Raises SourceError: INVERTED, NO_GEOMETRY, MIXED_SIZE, MIXED_SPACING, and those of `order_slices`, `read_pixels`.
    """
    severity: Severity = "F" if name == "t2w" else "S"
    if len(slices) < 2:
        raise _refuse("NO_GEOMETRY", f"expected a stack of slices, found {len(slices)}", severity)
    if (kinds := {each.inverted for each in slices}) != {False}:
        _check_inversion(kinds, name, severity)
    positions, orientations, (row_gap_mm, column_gap_mm) = _check_headers(slices, severity)
    order = order_slices(positions, orientations, severity)
    image = sitk.GetImageFromArray(read_pixels([slices[index] for index in order.indices], severity))
    image.SetSpacing((column_gap_mm, row_gap_mm, order.spacing_mm))
    image.SetOrigin(positions[order.indices[0]].tolist())
    image.SetDirection(order.axes.ravel().tolist())
    return image


def order_slices(positions: Floats, orientations: Floats, severity: Severity = "F") -> Order:
    """Return the order of slices at `positions` (n, 3) in mm with `orientations` (n, 6), for n >= 2.

    Raises SourceError, with `severity`: BAD_ORIENTATION where the cosines differ by more than 1e-3 or are not
    perpendicular and of length 1; DUPLICATE_POSITION; MISSING_SLICE where a gap deviates from the median by more than
    5 % + 0.01 mm; SHEARED where slices drift sideways by more than 0.5 mm.
    """
    axes = _find_axes(orientations, severity)
    along = positions @ axes[:, 2]
    indices = np.argsort(along, kind="stable")
    gaps = np.diff(along[indices])
    count, spacing = len(indices), float(np.median(gaps))
    if (same := np.flatnonzero(gaps <= MAX_GAP_DEVIATION_MM)).size:
        raise _refuse(
            "DUPLICATE_POSITION",
            f"expected every slice at its own position, found slices {same[0] + 1} and {same[0] + 2} of {count} at the "
            f"same one ({same.size} such pairs)",
            severity,
        )
    off = np.abs(gaps - spacing)
    if (broken := np.flatnonzero(off > MAX_GAP_DEVIATION * spacing + MAX_GAP_DEVIATION_MM)).size:
        place = broken[off[broken].argmax()]
        raise _refuse(
            "MISSING_SLICE",
            f"expected slices every {spacing:.2f} mm, found {gaps[place]:.2f} mm between slice {place + 1} and "
            f"{place + 2} of {count}",
            severity,
        )
    sideways = (positions[indices] - positions[indices[0]]) @ axes[:, :2]
    if (drift := float(np.linalg.norm(sideways, axis=1).max())) > MAX_DRIFT_MM:
        raise _refuse(
            "SHEARED",
            f"expected slices stacked along their normal, found them {drift:.1f} mm sideways of it over {count} slices",
            severity,
        )
    return Order(tuple(indices.tolist()), spacing, axes)


def misses_end_slice(slices: Sequence[Slice]) -> bool:
    """Return whether instance numbers run beyond the count of slices of a classic series: an end slice may be missing.

    Numbers that all lie beyond the count say nothing: such a series does not count from 1.
    """
    numbers = [each.instance_number for each in slices if each.instance_number is not None]
    if len(numbers) < len(slices) or len(set(numbers)) < len(numbers):
        return False
    return min(numbers) <= len(numbers) < max(numbers)


def _check_inversion(kinds: set[bool], name: str, severity: Severity) -> None:
    """Refuse MONOCHROME1 where turning it over is not enough: an ADC or a fit needs the values, not their order."""
    found = "inverted ones (MONOCHROME1)" if len(kinds) == 1 else "some inverted ones (MONOCHROME1) among them"
    if len(kinds) > 1 or name not in ("t2w", "hbv"):
        raise _refuse("INVERTED", f"expected grey values that grow with the signal, found {found}", severity)


def _check_headers(slices: Sequence[Slice], severity: Severity) -> tuple[Floats, Floats, tuple[float, float]]:
    """Return positions, orientations and pixel spacing (between rows, between columns)."""
    placed = [(each.position_mm, each.orientation, each.pixel_spacing_mm) for each in slices]
    if (lost := sum(None in each for each in placed)) > 0:
        raise _refuse(
            "NO_GEOMETRY",
            f"expected position, orientation and pixel spacing in every slice, found {lost} of {len(slices)} without",
            severity,
        )
    positions, orientations, spacings = (
        np.array([each[part] for each in placed], dtype=np.float64) for part in range(3)
    )
    if not all((np.abs(values) < _ABSURD_MM).all() for values in (positions, orientations, spacings)):
        raise _refuse("NOT_FINITE", "expected finite positions, found NaN, infinity or kilometres", severity)
    if sizes := {(each.rows, each.columns) for each in slices} - {(slices[0].rows, slices[0].columns)}:
        other = " x ".join(str(number) for number in min(sizes))
        raise _refuse(
            "MIXED_SIZE",
            f"expected slices of one size, found {slices[0].rows} x {slices[0].columns} and {other} pixels",
            severity,
        )
    if not (spacings > 0).all():
        raise _refuse("NO_GEOMETRY", "expected a pixel spacing above 0 mm, found 0 or less", severity)
    if (np.abs(spacings - spacings[0]) > MAX_SPACING_DEVIATION * spacings[0]).any():
        low, high = spacings.min(), spacings.max()
        raise _refuse("MIXED_SPACING", f"expected one pixel spacing, found {low:.3f} to {high:.3f} mm", severity)
    return positions, orientations, (float(spacings[0, 0]), float(spacings[0, 1]))


def _find_axes(orientations: Floats, severity: Severity) -> Floats:
    along_row, along_column = orientations[0, :3], orientations[0, 3:]
    lengths = np.linalg.norm((along_row, along_column), axis=1)
    deviation = max(np.abs(lengths - 1).max(), abs(along_row @ along_column))
    if not deviation <= MAX_COSINE_DEVIATION:
        raise _refuse(
            "BAD_ORIENTATION",
            f"expected two perpendicular directions of length 1, found them off by {deviation:.3f}",
            severity,
        )
    if (spread := float(np.ptp(orientations, axis=0).max())) > MAX_COSINE_DEVIATION:
        raise _refuse(
            "BAD_ORIENTATION", f"expected parallel slices, found cosines that differ by {spread:.3f}", severity
        )
    along_row = along_row / lengths[0]
    along_column = along_column - (along_column @ along_row) * along_row  # what rounding in the header left over
    along_column /= np.linalg.norm(along_column)
    return np.stack((along_row, along_column, np.cross(along_row, along_column)), axis=1)


def _refuse(code: str, text: str, severity: Severity) -> SourceError:
    return SourceError(code, f"{text}; export the whole series again from the scanner or the archive.", severity)
