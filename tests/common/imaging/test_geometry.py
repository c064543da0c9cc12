import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.geometry import prepare_case
from prostafed.common.imaging.intensity import normalise

GRID = Grid((3.0, 0.5, 0.5), (6, 32, 32))


@pytest.fixture
def t2w(make_volume, tilted_axes):
    """6 slices of 64 x 64: half again as wide as the box; its middle is at (0, 0, 0)."""
    voxels = np.random.default_rng(0).integers(0, 1000, (6, 64, 64)).astype(np.uint16)
    return _centred(make_volume(voxels, (3, 0.5, 0.5), axes=tilted_axes))


@pytest.fixture
def study(make_volume, tilted_axes, t2w):
    voxels = np.random.default_rng(1).integers(0, 3000, (2, 6, 20, 20)).astype(np.uint16)
    adc, hbv = (_centred(make_volume(each, (3.1, 2, 2), axes=tilted_axes)) for each in voxels)
    return {"t2w": t2w, "adc": adc, "hbv": hbv}


@pytest.fixture
def gland(t2w):
    """A block of 4 x 10 x 10 voxels of the t2w around its voxel (z, y, x) = (2.5, 30.5, 26.5)."""
    voxels = np.zeros((6, 64, 64), np.uint8)
    voxels[1:5, 26:36, 22:32] = 1
    return _like(t2w, voxels)


def _centred(image):
    middle = image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])
    image.SetOrigin((np.array(image.GetOrigin()) - np.array(middle)).tolist())
    return image


def _like(reference, voxels):
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(reference)
    return image


def _voxels(image):
    return sitk.GetArrayFromImage(image)


class TestPrepareCase:
    def test_equal_spacing_is_a_crop_and_a_normalisation(self, study, t2w):
        image, masks = prepare_case("a", study, {}, GRID)
        assert (image.shape, image.dtype) == ((3, 6, 32, 32), np.float16)
        assert (masks.shape, masks.dtype, masks.any()) == ((3, 6, 32, 32), np.uint8, False)
        crop = _voxels(t2w)[:, 16:48, 16:48].astype(np.float32)
        np.testing.assert_allclose(image[0], normalise(crop), atol=2e-3)

    def test_sequences_come_in_the_order_asked(self, study):
        forward, _ = prepare_case("a", study, {}, GRID)
        backward, _ = prepare_case("a", dict(reversed(study.items())), {}, GRID)
        np.testing.assert_array_equal(forward[::-1], backward)

    def test_a_channel_nobody_has_is_zeros_and_no_other_is(self, study):
        partly = {name: study[name] for name in ("adc", "t2w")}
        image, _ = prepare_case("c1", partly, {}, GRID, channels=("t2w", "adc", "hbv"))
        assert not image[2].any()
        np.testing.assert_array_equal(image[:2], prepare_case("c1", study, {}, GRID, channels=("t2w", "adc"))[0])
        assert image[:2].any(axis=(1, 2, 3)).all()

    def test_the_box_is_centred_on_the_gland(self, study, t2w, gland):
        image, masks = prepare_case("a", study, {"gland": gland}, GRID)
        # Centre (2.5, 30.5, 26.5): the box's 32 voxels start 15.5 before it.
        np.testing.assert_array_equal(masks[0], _voxels(gland)[:, 15:47, 11:43])
        np.testing.assert_allclose(image[0], normalise(_voxels(t2w)[:, 15:47, 11:43].astype(np.float32)), atol=2e-3)

    def test_a_given_centre_wins(self, study, t2w, gland):
        center_mm = t2w.TransformContinuousIndexToPhysicalPoint((35.5, 31.5, 2.5))
        _, masks = prepare_case("a", study, {"gland": gland}, GRID, center_mm)
        np.testing.assert_array_equal(masks[0], _voxels(gland)[:, 16:48, 20:52])

    def test_an_empty_gland_leaves_the_centre_where_it_was(self, study, t2w):
        empty = _like(t2w, np.zeros((6, 64, 64), np.uint8))
        np.testing.assert_array_equal(
            prepare_case("a", study, {"gland": empty}, GRID)[0], prepare_case("a", study, {}, GRID)[0]
        )

    def test_a_reference_that_is_no_channel_gives_the_axes(self, study, t2w):
        diffusion = {"hbv": study["hbv"]}
        whole, _ = prepare_case("a", study, {}, GRID)
        np.testing.assert_array_equal(prepare_case("a", diffusion, {}, GRID, reference=t2w)[0][0], whole[2])
        alone = prepare_case("a", diffusion, {}, GRID)[0]
        assert np.abs(alone[0] - whole[2]).max() > 0.01

    def test_only_the_t2w_is_interpolated_by_splines(self, t2w):
        center_mm = t2w.TransformContinuousIndexToPhysicalPoint((31.75, 31.25, 2.5))
        spline, linear, again = prepare_case("a", {"t2w": t2w, "adc": t2w, "hbv": t2w}, {}, GRID, center_mm)[0]
        np.testing.assert_array_equal(linear, again)
        assert np.abs(spline - linear).mean() > 0.1

    def test_masks_stand_at_their_places(self, study, gland):
        lesion = _like(gland, np.where(_voxels(gland), 4, 0).astype(np.uint8))
        _, masks = prepare_case("a", study, {"lesion": lesion, "zones": gland}, GRID)
        assert [int(mask.sum()) for mask in masks] == [0, 400, 400]

    def test_what_a_sequence_does_not_cover_is_its_darkest_value_and_counts_for_nothing(self, study, make_volume, t2w):
        voxels = np.random.default_rng(3).uniform(500, 600, (5, 64, 64)).astype(np.float32)
        short = make_volume(voxels, (3, 0.5, 0.5), t2w.GetOrigin(), np.reshape(t2w.GetDirection(), (3, 3)))
        image, _ = prepare_case("a", {"t2w": t2w, "adc": short}, {}, GRID)
        np.testing.assert_allclose(image[1, :5], normalise(voxels[:, 16:48, 16:48]), atol=2e-3)
        assert (image[1, 5] == image[1, :5].min()).all()

    def test_is_a_pure_function(self, study, gland):
        first, second = (prepare_case("a", study, {"gland": gland}, GRID) for _ in range(2))
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)


class TestRefusals:
    """Every code, with a message that names the case, what was found and what to do."""

    def assert_refused(self, code, study, masks, *fragments, grid=GRID):
        with pytest.raises(DataError) as caught:
            prepare_case("site-7", study, masks, grid)
        message = str(caught.value)
        assert message.startswith(f"{code} case=site-7: expected ")
        assert message.endswith(".")
        assert "\n" not in message
        for fragment in ("found", ";", *fragments):
            assert fragment in message

    @pytest.mark.parametrize("name", ["t2w", "adc"])
    def test_slanting_axes(self, study, name):
        axes = np.reshape(study[name].GetDirection(), (3, 3)).copy()
        axes[:, 2] += 0.01 * axes[:, 0]
        study[name].SetDirection(axes.ravel().tolist())
        self.assert_refused("BAD_ORIENTATION", study, {}, name)

    def test_an_orientation_that_is_no_number(self, study):
        study["hbv"].SetOrigin((np.nan, 0.0, 0.0))
        self.assert_refused("BAD_ORIENTATION", study, {}, "hbv")

    def test_a_slanting_mask(self, study, gland):
        axes = np.reshape(gland.GetDirection(), (3, 3)).copy()
        axes[:, 0] *= 1.01
        gland.SetDirection(axes.ravel().tolist())
        self.assert_refused("BAD_ORIENTATION", study, {"gland": gland}, "gland")

    def test_a_flat_image(self, study):
        self.assert_refused("NO_GEOMETRY", {**study, "adc": study["adc"][:, :, 0]}, {}, "2 dimensions")

    def test_colours(self, study):
        colours = sitk.Compose(study["adc"], study["adc"])
        self.assert_refused("NO_GEOMETRY", {**study, "adc": colours}, {}, "2 values per voxel")

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_voxels_that_are_no_numbers(self, study, value):
        voxels = _voxels(study["adc"]).astype(np.float32)
        voxels[0, 0, 0] = value
        self.assert_refused("NOT_FINITE", {**study, "adc": _like(study["adc"], voxels)}, {}, "adc")

    @pytest.mark.parametrize("name", ["t2w", "hbv"])
    @pytest.mark.parametrize("value", [0, 7, 50_001])
    def test_a_blank_image(self, study, name, value):
        blank = _like(study[name], np.full_like(_voxels(study[name]), value))
        self.assert_refused("BLANK", {**study, name: blank}, {}, name)

    def test_an_image_that_is_blank_but_for_a_voxel(self, study):
        voxels = np.zeros_like(_voxels(study["t2w"]))
        voxels[3, 32, 32] = 1000
        self.assert_refused("BLANK", {**study, "t2w": _like(study["t2w"], voxels)}, {}, "t2w")

    def test_too_few_slices(self, study):
        self.assert_refused(
            "LOW_OVERLAP", {**study, "adc": study["adc"][:, :, :4]}, {}, "adc", "75%", "67%", "16x16x18 mm"
        )

    def test_three_quarters_are_enough(self, study):
        prepare_case("a", {**study, "hbv": study["t2w"][:, :, :5]}, {}, GRID)

    def test_a_reduced_field_of_view_is_fine_if_it_holds_the_gland(self, study, gland):
        zoomed = study["t2w"][10:43, 20:42, :]  # x 10 to 42, y 20 to 41: 22 of the box's 32 rows, the whole gland
        self.assert_refused("LOW_OVERLAP", {**study, "hbv": zoomed}, {}, "hbv")
        prepare_case("a", {**study, "hbv": zoomed}, {"gland": gland}, GRID)
        cut = study["t2w"][10:43, 29:51, :]  # 7 of the gland's 10 rows
        self.assert_refused("LOW_OVERLAP", {**study, "hbv": cut}, {"gland": gland}, "hbv")

    def test_a_mask_of_another_patient(self, study, gland):
        gland.SetOrigin((300.0, 0.0, 0.0))
        self.assert_refused("MASK_SPACE", study, {"gland": gland}, "gland", "0%")

    def test_a_lesion_beside_the_box(self, study, t2w):
        voxels = np.zeros((6, 64, 64), np.uint8)
        voxels[2:4, 2:8, 2:8] = 1
        self.assert_refused("MASK_SPACE", study, {"lesion": _like(t2w, voxels)}, "lesion", "54 mm3", "0 mm3")

    def test_labels_nobody_knows(self, study, gland):
        self.assert_refused("MASK_LABEL", study, {"gland": gland * 3}, "gland", "found 3")
