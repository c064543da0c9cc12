"""From the grid of the model back to the T2W, in figures that can be checked by hand."""

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.predict.placing import lay_grid, place_answer
from prostafed.common.imaging.cases import Grid
from prostafed.common.tasks.answer import Answer, Segment

STRAIGHT = np.eye(3)
T2W_SIZE = (8, 32, 32)  # voxels (z, y, x)
GRID = Grid((3.0, 0.4, 0.4), (6, 24, 24))


def make_t2w(size=T2W_SIZE, spacing=(3.0, 0.4, 0.4), turn=STRAIGHT, origin=(10.0, -20.0, 30.0)) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(size, dtype=np.float32))
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(origin)
    image.SetDirection(turn.ravel().tolist())
    return image


def make_block(where: tuple[slice, slice, slice], grid: Grid = GRID) -> Answer:
    heat = np.zeros(grid.size, dtype=np.float32)
    heat[where] = 0.75
    return Answer(
        0.75,
        heat=heat,
        labels=(heat > 0).astype(np.uint8),
        segments=(Segment("candidate", "Lesion candidate 1", 0.75),),
    )


def test_on_equal_voxels_a_block_moves_by_the_margin() -> None:
    t2w = make_t2w()  # the box leaves (8 - 6) / 2 = 1 slice and (32 - 24) / 2 = 4 pixels around it
    placed = place_answer(make_block((slice(2, 4), slice(10, 14), slice(6, 12))), lay_grid(t2w, GRID), t2w)
    expected = np.zeros(T2W_SIZE, dtype=bool)
    expected[3:5, 14:18, 10:16] = True
    assert placed.labels is not None
    assert placed.heat is not None
    np.testing.assert_array_equal(placed.labels > 0, expected)
    np.testing.assert_allclose(placed.heat, np.where(expected, 0.75, 0), atol=1e-6)
    (region,) = placed.regions
    assert (region.location.first, region.location.last) == ((3, 14, 10), (4, 17, 15))
    assert region.volume_ml == pytest.approx(48 * 3.0 * 0.4 * 0.4 / 1000)
    z, y, x = region.location.point
    assert region.point_mm == pytest.approx((10 + 0.4 * x, -20 + 0.4 * y, 30 + 3 * z))


def test_a_scan_stored_feet_first_gets_its_block_at_the_same_place_in_the_patient() -> None:
    upside_down = make_t2w(turn=np.diag([1.0, -1.0, -1.0]))
    block = make_block((slice(0, 2), slice(10, 14), slice(6, 12)))
    box = lay_grid(upside_down, GRID)
    placed = place_answer(block, box, upside_down)
    assert placed.labels is not None
    # The box runs from feet to head whatever the scan does: its first slices are the scan's last but one.
    assert np.flatnonzero(placed.labels.any(axis=(1, 2))).tolist() == [5, 6]
    center = np.argwhere(placed.labels > 0).mean(axis=0)[::-1].tolist()
    in_box = np.argwhere(block.labels > 0).mean(axis=0)[::-1].tolist()
    assert upside_down.TransformContinuousIndexToPhysicalPoint(center) == pytest.approx(
        box.TransformContinuousIndexToPhysicalPoint(in_box)
    )


@pytest.mark.parametrize("spacing", [(3.0, 0.3, 0.3), (4.0, 0.7, 0.7), (2.0, 0.5, 0.6)])
def test_an_oblique_scan_of_other_voxels_gets_every_face_of_the_block_back_within_half_a_voxel(spacing) -> None:
    angle = 0.3
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    t2w = make_t2w((14, 60, 70), spacing, turn)
    block = make_block((slice(2, 5), slice(6, 14), slice(8, 20)))
    box = lay_grid(t2w, GRID)
    placed = place_answer(block, box, t2w)
    assert placed.labels is not None
    for corner, side in ((np.min, -0.5), (np.max, 0.5)):
        found = np.array(corner(np.argwhere(placed.labels > 0), axis=0)[::-1] + side)
        put = np.array(corner(np.argwhere(block.labels > 0), axis=0)[::-1] + side)
        away = np.array(t2w.TransformContinuousIndexToPhysicalPoint(found.tolist()))
        away -= box.TransformContinuousIndexToPhysicalPoint(put.tolist())
        assert (np.abs(turn.T @ away) <= np.array(spacing[::-1]) / 2 + 1e-6).all()  # along the scan's own axes


def test_a_candidate_smaller_than_a_voxel_keeps_one() -> None:
    coarse = make_t2w((4, 8, 8), (6.0, 2.0, 2.0))
    grid = Grid((3.0, 0.5, 0.5), (6, 24, 24))
    placed = place_answer(make_block((slice(2, 3), slice(9, 10), slice(9, 10)), grid), lay_grid(coarse, grid), coarse)
    assert placed.labels is not None
    assert np.count_nonzero(placed.labels) == 1
    assert len(placed.regions) == 1


def test_nothing_found_is_no_region() -> None:
    t2w = make_t2w()
    answer = Answer(0.0, heat=np.zeros(GRID.size, np.float32), labels=np.zeros(GRID.size, np.uint8))
    placed = place_answer(answer, lay_grid(t2w, GRID), t2w)
    assert placed.labels is None
    assert placed.regions == ()
    assert place_answer(Answer(0.4), lay_grid(t2w, GRID), t2w).heat is None


def test_outside_the_box_there_is_no_heat() -> None:
    t2w = make_t2w()
    answer = Answer(1.0, heat=np.ones(GRID.size, np.float32))
    heat = place_answer(answer, lay_grid(t2w, GRID), t2w).heat
    assert heat is not None
    assert heat[1:7, 4:28, 4:28].min() == pytest.approx(1)
    assert heat[0].max() == heat[:, :4].max() == heat[:, :, 28:].max() == 0
