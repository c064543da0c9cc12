"""Where a voxel lies in the patient, in each plane."""

import numpy as np
import pytest

from prostafed.simulations.dicom.scan import place
from prostafed.simulations.phantom.picai_layout import turn

AXES = (np.array([-4.0, 0.0, 4.0, 8.0]), np.array([-1.0, 1.0, 3.0]), np.array([10.0, 11.5]))  # z, y, x in mm
CORNER = np.array([100.0, 200.0, 300.0])


@pytest.mark.parametrize("tilt", [0.0, 0.3])
@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_every_voxel_stays_where_it_was(plane, tilt):
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    placed = place(plane, values, AXES, turn(tilt), CORNER)
    where = placed.placement
    assert sorted(placed.values.ravel()) == sorted(values.ravel())
    for index, value in np.ndenumerate(placed.values):
        at = (
            where.position(index[0])
            + where.along_column * where.pixel_mm[0] * index[1]
            + where.along_row * where.pixel_mm[1] * index[2]
        )
        z, y, x = np.argwhere(values == value)[0]
        np.testing.assert_allclose(at, CORNER + turn(tilt) @ [AXES[2][x], AXES[1][y], AXES[0][z]], atol=1e-9)


def test_planes_look_as_radiologists_see_them():
    """Columns run to the left or the back, rows to the back or the feet; by hand, without tilt."""
    left, back, feet = (1, 0, 0), (0, 1, 0), (0, 0, -1)
    values = np.zeros((4, 3, 2), dtype=np.float32)
    for plane, columns, rows, spacing in (
        ("axial", left, back, (4.0, 2.0, 1.5)),
        ("sagittal", back, feet, (1.5, 4.0, 2.0)),
        ("coronal", left, feet, (2.0, 4.0, 1.5)),
    ):
        placed = place(plane, values, AXES, np.eye(3), CORNER).placement
        np.testing.assert_array_equal(placed.along_row, columns)
        np.testing.assert_array_equal(placed.along_column, rows)
        assert (placed.slice_mm, *placed.pixel_mm) == spacing
