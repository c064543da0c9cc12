import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.resample import covered, lay_box, resample, resample_labels, settle_center


def _middle(image):
    return image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])


def _voxel_at(box, point_mm):
    return tuple(round(index) for index in box.TransformPhysicalPointToContinuousIndex(point_mm))[::-1]


def _dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


class TestLayBox:
    def test_is_centred_and_has_spacing_and_size_of_the_grid(self, make_volume, tilted_axes):
        reference = make_volume(np.zeros((5, 9, 9)), (3, 0.5, 0.5), (10, -20, 30), tilted_axes)
        box = lay_box(reference, Grid((3.0, 0.5, 0.25), (4, 6, 8)), (1.0, 2.0, 3.0))
        assert box.GetSize() == (8, 6, 4)
        assert box.GetSpacing() == (0.25, 0.5, 3.0)
        np.testing.assert_allclose(_middle(box), (1, 2, 3), atol=1e-9)
        np.testing.assert_allclose(np.reshape(box.GetDirection(), (3, 3)), tilted_axes, atol=1e-9)

    @pytest.mark.parametrize("axes", [np.diag([-1.0, -1, 1]), np.diag([1.0, 1, -1]), np.eye(3)[:, [2, 0, 1]]])
    def test_axes_follow_the_patient_however_the_scan_was_stored(self, make_volume, axes):
        box = lay_box(make_volume(np.zeros((4, 4, 4)), axes=axes), Grid((1.0, 1.0, 1.0), (4, 4, 4)), (0.0, 0.0, 0.0))
        np.testing.assert_allclose(np.reshape(box.GetDirection(), (3, 3)), np.eye(3), atol=1e-12)


class TestSettleCenter:
    def test_without_a_wish_takes_the_middle(self, make_volume):
        reference = make_volume(np.zeros((4, 8, 8)), (3, 1, 1), (100, 0, 0))
        assert settle_center(None, reference, Grid((3.0, 1.0, 1.0), (2, 4, 4))) == pytest.approx((103.5, 3.5, 4.5))

    def test_keeps_the_box_on_the_reference(self, make_volume):
        reference = make_volume(np.zeros((10, 10, 10)))  # voxels 0..9 along each axis
        grid = Grid((1.0, 1.0, 1.0), (4, 4, 20))
        x, y, z = settle_center((0.0, 9.0, 4.5), reference, grid)
        assert (y, z) == pytest.approx((7.5, 4.5))  # voxels 6..9, and 3..6
        assert x == pytest.approx(4.5)  # the box is the longer along x: centred, though 0 was asked

    def test_lays_voxels_on_voxels(self, make_volume, tilted_axes):
        reference = make_volume(np.zeros((19, 30, 30)), (3, 0.5, 0.5), (5, 6, 7), tilted_axes)
        grid = Grid((3.0, 0.5, 0.5), (20, 8, 8))
        box = lay_box(reference, grid, settle_center(None, reference, grid))
        first = reference.TransformPhysicalPointToContinuousIndex(box.GetOrigin())
        np.testing.assert_allclose(first, np.round(first), atol=1e-6)
        assert covered(box, reference)[:, 0, 0].sum() == 19


class TestCovered:
    def test_counts_voxels_by_hand(self, make_volume):
        box = lay_box(make_volume(np.zeros((2, 2, 2))), Grid((1.0, 1.0, 1.0), (2, 4, 4)), (1.5, 1.5, 0.5))
        image = make_volume(np.zeros((2, 4, 2)), origin_mm=(2, 0, 0))  # the half with x = 2, 3
        np.testing.assert_array_equal(covered(box, image), np.broadcast_to([False, False, True, True], (2, 4, 4)))

    def test_agrees_with_resampling_ones(self, make_volume, tilted_axes):
        box = lay_box(make_volume(np.zeros((8, 8, 8))), Grid((3.0, 0.7, 0.7), (6, 21, 21)), (7.0, 7.0, 7.0))
        image = make_volume(np.ones((5, 11, 13), np.float32), (2, 1.1, 1.3), (1, 2, 3), tilted_axes)
        ones = sitk.GetArrayFromImage(sitk.Resample(image, box, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
        assert 0.05 < ones.mean() < 0.95
        np.testing.assert_array_equal(covered(box, image), ones > 0)


class TestResample:
    @pytest.mark.parametrize("spline", [True, False])
    def test_a_marker_ends_up_where_it_is_in_the_patient(self, make_volume, tilted_axes, spline):
        voxels = np.zeros((7, 40, 40), np.float32)
        voxels[4, 10, 25] = 100
        image = make_volume(voxels, (3.5, 0.8, 0.6), (-30, 12, 44), tilted_axes)
        marker_mm = image.TransformIndexToPhysicalPoint((25, 10, 4))
        reference = make_volume(np.zeros((9, 50, 50)), (3, 0.5, 0.5), (-29, 13, 42), tilted_axes)
        grid = Grid((3.0, 0.5, 0.5), (8, 48, 48))
        box = lay_box(reference, grid, settle_center(None, reference, grid))
        found = resample(image, box, spline)
        assert np.unravel_index(found.argmax(), found.shape) == _voxel_at(box, marker_mm)

    @pytest.mark.parametrize("spline", [True, False])
    def test_equal_grids_give_equal_voxels(self, make_volume, tilted_axes, spline):
        voxels = np.random.default_rng(0).integers(0, 1000, (6, 30, 30)).astype(np.int16)
        image = make_volume(voxels, (3, 0.5, 0.5), (5, -7, 9), tilted_axes)
        grid = Grid((3.0, 0.5, 0.5), (6, 30, 30))
        box = lay_box(image, grid, settle_center(None, image, grid))
        np.testing.assert_allclose(resample(image, box, spline), voxels, atol=0.02)

    @pytest.mark.parametrize("axes", [np.diag([-1.0, -1, 1]), np.diag([1.0, 1, -1])])
    def test_a_scan_stored_the_other_way_round_comes_out_alike(self, make_volume, axes):
        voxels = np.random.default_rng(0).random((4, 6, 6)).astype(np.float32)
        turned = make_volume(voxels[tuple(slice(None, None, int(sign)) for sign in np.diag(axes)[::-1])], axes=axes)
        turned.SetOrigin([5.0 if sign < 0 else 0.0 for sign in np.diag(axes)[:2]] + [3.0 if axes[2, 2] < 0 else 0.0])
        grid = Grid((1.0, 1.0, 1.0), (4, 6, 6))
        box = lay_box(turned, grid, settle_center(None, turned, grid))
        np.testing.assert_allclose(resample(turned, box, False), voxels, atol=1e-6)

    def test_spline_is_cubic_and_stays_within_the_range_of_its_input(self, make_volume):
        voxels = np.zeros((4, 4, 32), np.float32)
        voxels[..., 16:] = 100
        image = make_volume(voxels, (1, 1, 1))
        box = lay_box(image, Grid((1.0, 1.0, 0.5), (4, 4, 32)), (15.5, 1.5, 1.5))
        raw = sitk.GetArrayFromImage(sitk.Resample(image, box, sitk.Transform(), sitk.sitkBSpline, 0.0))
        assert raw.min() < -5  # what is clamped
        assert raw.max() > 105
        found = resample(image, box, spline=True)
        assert (found.min(), found.max()) == (0, 100)
        np.testing.assert_allclose(found, np.clip(raw, 0, 100), atol=1e-3)
        assert np.abs(found - resample(image, box, spline=False)).max() > 1

    def test_the_crop_before_the_spline_changes_nothing_visible(self, make_volume):
        voxels = np.random.default_rng(1).random((3, 64, 64)).astype(np.float32)
        image = make_volume(voxels)
        box = lay_box(image, Grid((1.0, 0.7, 0.7), (3, 16, 16)), (31.6, 31.2, 1.0))
        whole = sitk.GetArrayFromImage(sitk.Resample(image, box, sitk.Transform(), sitk.sitkBSpline, 0.0))
        np.testing.assert_allclose(resample(image, box, spline=True), np.clip(whole, 0, 1), atol=1e-3)

    def test_a_coarser_grid_averages_noise_away(self, make_volume):
        noise = np.random.default_rng(2).normal(50, 10, (4, 90, 90)).astype(np.float32)
        image = make_volume(noise, (3, 0.5, 0.5))
        grid = Grid((3.0, 1.5, 1.5), (4, 24, 24))
        found = resample(image, lay_box(image, grid, settle_center(None, image, grid)), spline=False)
        assert found.mean() == pytest.approx(50, abs=0.5)
        # An average of 3 x 3 voxels has deviation 10 / 3; the Gaussian of that width, 10 / (2 sqrt(pi) 1.2) = 2.35.
        assert 2 < found.std() < 3.4


class TestResampleLabels:
    def test_equal_grids_give_equal_labels(self, make_volume):
        labels = np.random.default_rng(0).integers(0, 3, (4, 10, 10)).astype(np.uint8)
        mask = make_volume(labels)
        box = lay_box(mask, Grid((1.0, 1.0, 1.0), (4, 10, 10)), _middle(mask))
        np.testing.assert_array_equal(resample_labels(mask, box), labels)

    def test_another_space_keeps_shape_better_than_nearest(self, make_volume, tilted_axes):
        z, y, x = np.indices((20, 128, 128))

        def ball(z_mm, y_mm, x_mm):
            return (z_mm**2 + y_mm**2 + x_mm**2) < 12**2

        truth = ball((z - 9.5) * 3, (y - 63.5) * 0.5, (x - 63.5) * 0.5)
        reference = make_volume(truth.astype(np.uint8), (3, 0.5, 0.5))
        center_mm = np.array(_middle(reference))
        z, y, x = np.indices((15, 24, 24))
        coarse = make_volume(np.zeros((15, 24, 24), np.uint8), (3.6, 2, 2), (0, 0, 0), tilted_axes)
        coarse.SetOrigin((center_mm - np.array(_middle(coarse))).tolist())
        points = np.array(coarse.GetOrigin()) + np.stack([x * 2, y * 2, z * 3.6], -1) @ tilted_axes.T - center_mm
        mask = make_volume(
            ball(*np.moveaxis(points, -1, 0)[::-1]).astype(np.uint8), (3.6, 2, 2), coarse.GetOrigin(), tilted_axes
        )
        box = lay_box(reference, Grid((3.0, 0.5, 0.5), (20, 128, 128)), tuple(center_mm))
        nearest = sitk.GetArrayFromImage(sitk.Resample(mask, box, sitk.Transform(), sitk.sitkNearestNeighbor, 0.0))
        found = _dice(resample_labels(mask, box) > 0, truth)
        assert found > 0.93
        assert found > _dice(nearest > 0, truth) + 0.01

    def test_no_gap_opens_between_two_labels(self, make_volume):
        labels = np.repeat(np.array([[[1] * 4 + [2] * 4]], np.uint8), 4, axis=1)
        mask = make_volume(labels)
        box = lay_box(mask, Grid((1.0, 1.0, 0.25), (1, 4, 24)), (3.5, 1.5, 0.0))
        found = resample_labels(mask, box)
        assert (found > 0).all()
        np.testing.assert_array_equal(found[0, 0], [1] * 12 + [2] * 12)

    def test_where_two_labels_meet_the_outline_has_no_notch(self, make_volume):
        labels = np.zeros((1, 8, 8), np.uint8)
        labels[:, 2:6, 1:4], labels[:, 2:6, 4:7] = 1, 2
        mask = make_volume(labels)
        box = lay_box(mask, Grid((1.0, 0.3, 0.3), (1, 24, 24)), (3.55, 3.45, 0.0))
        found = resample_labels(mask, box)
        assert set(np.unique(found)) == {0, 1, 2}
        np.testing.assert_array_equal(found > 0, resample_labels(mask > 0, box) > 0)

    def test_an_empty_mask_stays_empty(self, make_volume):
        mask = make_volume(np.zeros((3, 3, 3), np.uint8))
        assert not resample_labels(mask, lay_box(mask, Grid((1.0, 1.0, 1.0), (2, 2, 2)), (0.0, 0.0, 0.0))).any()


@settings(max_examples=30, deadline=None)
@given(
    step=st.tuples(*[st.floats(0.3, 4)] * 3),
    size=st.tuples(*[st.integers(3, 20)] * 3),
    wanted=st.tuples(*[st.floats(-80, 80)] * 3),
    turn=st.floats(-0.7, 0.7),
)
def test_a_settled_box_leaves_the_reference_by_half_a_voxel_at_most(step, size, wanted, turn):
    reference = sitk.Image((12, 12, 12), sitk.sitkUInt8)
    reference.SetSpacing((2.0, 2.0, 3.0))
    reference.SetOrigin((-12.0, -12.0, -18.0))
    cos, sin = np.cos(turn), np.sin(turn)
    reference.SetDirection((cos, -sin, 0, sin, cos, 0, 0, 0, 1))
    grid = Grid(step, size)
    box = lay_box(reference, grid, settle_center(wanted, reference, grid))
    low = np.array(reference.TransformPhysicalPointToContinuousIndex(box.GetOrigin()))
    ratio = np.array(box.GetSpacing()) / reference.GetSpacing()
    extent = np.array(box.GetSize()) * ratio
    edge = low - ratio / 2 + 0.5  # 0 at the reference's first face, 12 at its last
    outside = np.maximum(-edge, 0) + np.maximum(edge + extent - 12, 0)
    assert (outside <= np.maximum(extent - 12, 0) + 0.5 + 1e-4).all()
    np.testing.assert_allclose(low, np.round(low), atol=1e-6)


@pytest.mark.parametrize("rounding_mm", [-1e-7, 0.0, 1e-7])
def test_rounding_in_a_header_does_not_move_the_box_by_a_slice(rounding_mm):
    """19 slices under a box of 20: the box begins half a slice before the first, a tie."""
    reference = sitk.Image((8, 8, 19), sitk.sitkUInt8)
    reference.SetSpacing((1.0, 1.0, 3.0 + rounding_mm))
    assert settle_center(None, reference, Grid((3.0, 1.0, 1.0), (20, 8, 8))) == pytest.approx(
        (3.5, 3.5, 28.5), abs=1e-4
    )
