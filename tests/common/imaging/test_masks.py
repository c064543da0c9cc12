import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.masks import center_of_mass, check_labels, check_space, prepare_mask
from prostafed.common.imaging.resample import lay_box

GRID = Grid((1.0, 1.0, 1.0), (8, 16, 16))


@pytest.fixture
def reference(make_volume):
    return make_volume(np.zeros((8, 16, 16), np.uint8))


@pytest.fixture
def box(reference):
    return lay_box(reference, GRID, (7.5, 7.5, 3.5))


def _block(value=1, dtype=np.uint8):
    voxels = np.zeros((8, 16, 16), dtype)
    voxels[2:6, 4:10, 4:12] = value
    return voxels


class TestCheckLabels:
    @pytest.mark.parametrize(("name", "values"), [("gland", (1,)), ("zones", (1, 2)), ("lesion", (1, 2, 3, 4, 5))])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
    def test_allowed(self, make_volume, name, values, dtype):
        voxels = np.zeros((2, 3, 3), dtype)
        voxels.ravel()[: len(values)] = values
        check_labels("a", name, make_volume(voxels))

    @pytest.mark.parametrize(
        ("name", "value", "shown"), [("gland", 2, "2"), ("gland", 255, "255"), ("zones", 3, "3"), ("lesion", 6, "6")]
    )
    def test_refused(self, make_volume, name, value, shown):
        with pytest.raises(DataError, match=rf"^MASK_LABEL case=a: expected \(0, 1.*{name} mask, found {shown};"):
            check_labels("a", name, make_volume(_block(value)))

    @pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (np.nan, "nan"), (-1, "-1"), (1.0000001, "1.0000001")])
    def test_values_between_labels_are_refused(self, make_volume, value, shown):
        with pytest.raises(DataError, match=f"found {shown};"):
            check_labels("a", "gland", make_volume(_block(value, np.float32)))

    def test_an_unknown_mask_is_a_mistake_in_the_program(self, make_volume):
        with pytest.raises(ValueError, match="Unknown mask 'rectum'"):
            check_labels("a", "rectum", make_volume(_block()))


class TestCheckSpace:
    def test_another_grid_of_the_same_space_is_fine(self, make_volume, reference):
        check_space("a", "gland", make_volume(np.ones((4, 4, 4), np.uint8), (2, 3, 3), (2, 2, 1)), reference)

    @pytest.mark.parametrize("empty", [True, False])
    def test_another_frame_is_refused(self, make_volume, reference, empty):
        mask = make_volume(_block(0 if empty else 1), origin_mm=(0, 0, 200))
        with pytest.raises(DataError, match=r"^MASK_SPACE case=a: expected the lesion mask .* found 0% of it there;"):
            check_space("a", "lesion", mask, reference)

    def test_half_of_the_foreground_decides_not_the_grid(self, make_volume, reference):
        voxels = np.zeros((8, 16, 64), np.uint8)
        voxels[2:6, 4:10, 10:18] = 1  # x = 10 to 17, of which 10 to 15 on the reference
        check_space("a", "gland", make_volume(voxels, origin_mm=(2, 0, 0)), reference)  # 4 of 8
        with pytest.raises(DataError, match="found 25% of it"):
            check_space("a", "gland", make_volume(voxels, origin_mm=(4, 0, 0)), reference)


class TestCenterOfMass:
    def test_by_hand(self, make_volume, tilted_axes):
        voxels = np.zeros((4, 5, 6), np.uint8)
        voxels[1, 2, 3] = voxels[2, 2, 3] = 1
        mask = make_volume(voxels, (3, 1, 1), (10, 20, 30), tilted_axes)
        expected = np.array([10, 20, 30]) + tilted_axes @ [3, 2, 4.5]
        np.testing.assert_allclose(center_of_mass(mask), expected, atol=1e-9)

    def test_nothing_has_none(self, make_volume):
        assert center_of_mass(make_volume(np.zeros((2, 2, 2), np.uint8))) is None


class TestPrepareMask:
    def test_grades_become_one_lesion(self, make_volume, box):
        voxels = _block(3)
        voxels[:, :7][voxels[:, :7] > 0] = 5
        np.testing.assert_array_equal(prepare_mask("a", "lesion", make_volume(voxels), box), _block(1))

    def test_zones_keep_their_labels(self, make_volume, box):
        voxels = _block(1)
        voxels[:, :7][voxels[:, :7] > 0] = 2
        np.testing.assert_array_equal(prepare_mask("a", "zones", make_volume(voxels, (1, 1, 1)), box), voxels)

    def test_a_lesion_outside_the_box_is_refused_not_forgotten(self, make_volume, box):
        mask = make_volume(_block(), origin_mm=(40, 0, 0))
        with pytest.raises(
            DataError, match=r"^MASK_SPACE .* found 192 mm3 in 1 parts before and 0 mm3 in 0 parts after"
        ):
            prepare_mask("a", "lesion", mask, box)

    def test_a_gland_cut_to_a_third_is_refused(self, make_volume, box):
        with pytest.raises(DataError, match="192 mm3 in 1 parts before and 48 mm3"):
            prepare_mask("a", "gland", make_volume(_block(), origin_mm=(10, 0, 0)), box)
        assert prepare_mask("a", "gland", make_volume(_block(), origin_mm=(7, 0, 0)), box).sum() == 120

    def test_a_small_lesion_may_change_by_some_voxels(self, make_volume):
        voxels = np.zeros((1, 16, 16), np.uint8)
        voxels[0, 3:6, 3:6] = 1  # 9 mm2, of which a grid of 2 mm may hit one voxel, 4 mm2
        mask = make_volume(voxels)
        assert (
            prepare_mask("a", "lesion", mask, lay_box(mask, Grid((1.0, 2.0, 2.0), (1, 8, 8)), (7.0, 7.0, 0.0))).sum()
            == 1
        )

    def test_a_small_lesion_may_not_vanish(self, make_volume, box):
        voxels = np.zeros((8, 16, 16), np.uint8)
        voxels[3, 7, 7:9] = 1
        with pytest.raises(DataError, match="2 mm3 in 1 parts before and 0 mm3 in 0 parts after"):
            prepare_mask("a", "lesion", make_volume(voxels, origin_mm=(30, 0, 0)), box)

    def test_lesions_that_run_together_are_refused(self, make_volume):
        voxels = np.zeros((1, 40, 40), np.uint8)
        voxels[:, 4:36:4, 4:36] = 1  # eight stripes, a millimetre wide, 3 mm apart
        voxels[:, 5:36:4, 4:36] = 1
        mask = make_volume(voxels, (3, 1, 1))
        coarse = lay_box(mask, Grid((3.0, 4.0, 1.0), (1, 10, 40)), (19.5, 22.5, 0.0))
        with pytest.raises(DataError, match=r"in 8 parts before and .* in 1 parts after"):
            prepare_mask("a", "lesion", mask, coarse)

    def test_an_empty_mask_is_zeros(self, make_volume, box):
        found = prepare_mask("a", "lesion", make_volume(_block(0)), box)
        assert (found.shape, found.dtype, found.any()) == (GRID.size, np.uint8, False)
