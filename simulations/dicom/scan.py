"""What a scanner makes of one patient: volumes in patient space, before any vendor has put them into files. numpy only.

Patient axes are DICOM's: x to the left, y to the back, z to the head (LPS), in mm.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]  # (x, y, z)
Kind = Literal["localizer", "t2w", "dwi", "adc", "eadc", "calculated"]
Plane = Literal["axial", "sagittal", "coronal"]


@dataclass(frozen=True)
class Placement:
    """How an array (slice, row, column) lies in the patient; the three axes are unit vectors, mutually perpendicular.

    Slices follow each other along row x column axis, as every scanner numbers them here.
    """

    origin_mm: Vector  # centre of the voxel [0, 0, 0]
    along_row: Vector  # to the next column
    along_column: Vector  # to the next row
    slice_mm: float
    pixel_mm: tuple[float, float]  # (between rows, between columns)

    @property
    def normal(self) -> Vector:
        """Unit vector to the next slice."""
        return np.cross(self.along_row, self.along_column)

    def position(self, index: int) -> Vector:
        """Return the centre of the first pixel of slice `index`, in mm."""
        return self.origin_mm + self.normal * (self.slice_mm * index)


@dataclass(frozen=True)
class Volume:
    """One volume (slice, row, column) in its own unit: arbitrary, or 1e-6 mm2/s in an ADC map."""

    values: FloatArray
    placement: Placement
    b_value_s_per_mm2: float | None = None


@dataclass(frozen=True)
class Scan:
    """What becomes one series: one volume, one per b-value, or the three planes of a localizer."""

    kind: Kind
    plane: Plane
    volumes: tuple[Volume, ...]
    echo_ms: float
    repetition_ms: float
    fitted_b_values: tuple[float, ...] = ()  # in a map: the b-values it was computed from


def place(
    plane: Plane, values: FloatArray, axes_mm: tuple[Vector, Vector, Vector], direction: Vector, corner_mm: Vector
) -> Volume:
    """Return `values` (z, y, x), sampled at `axes_mm` (z, y, x), cut into slices of `plane` as a radiologist sees them.

    `direction` holds the grid's x, y and z axes as columns, `corner_mm` the patient position of its point (0, 0, 0).
    Slices run towards the head (axial), the right (sagittal) or the back (coronal); image rows towards the back
    (axial) or the feet.
    """
    x, y, z = direction.T
    # Per plane: the array's axes in the order (slice, row, column), and which of them run against the grid's.
    order, flipped, along_row, along_column = {
        "axial": ((0, 1, 2), (), x, y),
        "sagittal": ((2, 0, 1), (0, 1), y, -z),
        "coronal": ((1, 0, 2), (1,), x, -z),
    }[plane]
    ordered = [axes_mm[axis] for axis in order]
    axes = [axis[::-1] if index in flipped else axis for index, axis in enumerate(ordered)]
    first = {axis: float(values_mm[0]) for axis, values_mm in zip(order, axes, strict=True)}
    steps = [abs(float(axis[-1] - axis[0])) / (axis.size - 1) for axis in axes]
    slice_mm, row_mm, column_mm = (round(step, 4) for step in steps)
    placement = Placement(
        corner_mm + direction @ np.array([first[2], first[1], first[0]]),
        along_row,
        along_column,
        slice_mm,
        (row_mm, column_mm),
    )
    return Volume(np.ascontiguousarray(np.flip(np.transpose(values, order), flipped)), placement)
