"""Masks that each lie on their images and do not belong together."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.agreement import check_agreement, doubt_lesion
from tests.common.imaging.conftest import MakeVolume

SHAPE = (10, 40, 60)


def draw(x: int, width: int, value: int = 1) -> np.ndarray:
    """A block of 4 x 10 x `width` voxels whose first column is `x`."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[3:7, 15:25, x : x + width] = value
    return voxels


def draw_zones(x: int, width: int) -> np.ndarray:
    """The same block in two zones."""
    voxels = draw(x, width)
    voxels[:, 20:] *= 2
    return voxels


@pytest.fixture
def masks(make_volume: MakeVolume) -> dict[str, sitk.Image]:
    drawn = {"gland": draw(10, 20), "zones": draw_zones(10, 20), "lesion": draw(12, 6)}
    return {name: make_volume(voxels) for name, voxels in drawn.items()}


def test_masks_of_one_prostate_agree(masks: Mapping[str, sitk.Image]) -> None:
    check_agreement("a", masks)
    assert doubt_lesion(masks) is None


@pytest.mark.parametrize(("x", "doubted"), [(27, False), (28, True), (45, True)])
def test_a_lesion_most_of_which_is_outside_is_doubted(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], x: int, doubted: bool
) -> None:
    masks["lesion"] = make_volume(draw(x, 6))  # the gland ends at column 29
    said = doubt_lesion(masks)
    assert (said is not None) == doubted
    if said:
        assert f"most of the lesion mask in the gland mask of the same study, found {max(0, 30 - x) / 6:.0%}" in said


@pytest.mark.parametrize(("x", "far"), [(36, False), (37, True)])
def test_a_lesion_far_from_the_gland_is_refused(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], x: int, far: bool
) -> None:
    masks["lesion"] = make_volume(draw(x, 6))  # columns 30 to 39 are within 10 mm of it
    if not far:
        return check_agreement("a", masks)
    with pytest.raises(DataError, match=r"^MASK_SPACE case=a: .* within 10 mm of the gland mask, found 50%|33%"):
        check_agreement("a", {**masks, "lesion": make_volume(draw(x + 1, 6))})
    return None


@pytest.mark.parametrize("organ", ["gland", "zones"])
def test_one_of_gland_and_zones_is_enough_to_tell(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], organ: str
) -> None:
    del masks[{"gland": "zones", "zones": "gland"}[organ]]
    assert f"in the {organ} mask" in str(doubt_lesion({**masks, "lesion": make_volume(draw(30, 6))}))
    with pytest.raises(DataError, match=f"10 mm of the {organ} mask, found 0%"):
        check_agreement("a", {**masks, "lesion": make_volume(draw(50, 6))})
    check_agreement("a", {"lesion": masks["lesion"]})


@pytest.mark.parametrize(("x", "width", "refused"), [(20, 20, False), (21, 20, True), (14, 10, False), (14, 9, True)])
def test_gland_and_zones_that_disagree_are_refused(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], x: int, width: int, refused: bool
) -> None:
    masks["zones"] = make_volume(draw_zones(x, width))
    del masks["lesion"]
    if not refused:
        return check_agreement("a", masks)
    with pytest.raises(DataError, match=r"^MASK_SPACE case=a: expected most of the (zones|gland) mask in the"):
        check_agreement("a", masks)
    return None


@pytest.mark.parametrize("zone", [1, 2])
def test_nothing_need_lie_in_zones_of_which_one_was_not_drawn(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], zone: int
) -> None:
    masks["zones"] = make_volume(draw(10, 9, zone))
    check_agreement("a", masks)
    masks["zones"] = make_volume(draw(35, 9, zone))
    with pytest.raises(DataError, match="most of the zones mask in the gland mask, found 0%"):
        check_agreement("a", masks)
    del masks["gland"]
    masks["lesion"] = make_volume(draw(10, 6))
    check_agreement("a", masks)
    assert doubt_lesion(masks) is None


def test_masks_on_other_grids_are_held_against_each_other(
    make_volume: MakeVolume, masks: dict[str, sitk.Image], tilted_axes: np.ndarray
) -> None:
    """Oracle: distances between all voxels. The lesion has coarse, tilted voxels, as one drawn on an ADC has."""
    corner = np.array((29.0, 15.0, 3.0))
    lesion = make_volume(np.ones((2, 4, 5), np.uint8), (3.0, 2.0, 2.0), corner, tilted_axes)
    steps = tilted_axes * (2.0, 2.0, 3.0)
    points = np.array([corner + steps @ index[::-1] for index in np.ndindex(2, 4, 5)])
    gland = np.argwhere(draw(10, 20))[:, ::-1]
    inside = [np.abs(gland - point).max(axis=1).min() <= 0.5 for point in points]
    said = doubt_lesion({**masks, "lesion": lesion})
    assert said is not None
    assert f"found {np.mean(inside):.0%}" in said


@pytest.mark.parametrize("empty", ["gland", "zones", "lesion"])
def test_an_empty_mask_says_nothing(make_volume: MakeVolume, masks: dict[str, sitk.Image], empty: str) -> None:
    masks[empty] = make_volume(np.zeros(SHAPE, np.uint8))
    check_agreement("a", masks)
    assert doubt_lesion(masks) is None


@pytest.mark.data
def test_real_masks_agree(data_folder: Path) -> None:
    root = data_folder / "picai_labels"
    gland, zones = root / "anatomical_delineations/whole_gland/AI/Bosma22b", "anatomical_delineations/zonal_pz_tz/AI"
    doubted = {}
    for lesion in sorted((root / "csPCa_lesion_delineations/human_expert").glob("*/*.nii.gz")):
        files = {"gland": gland / lesion.name, "zones": root / zones / "HeviAI23" / lesion.name, "lesion": lesion}
        masks = {name: sitk.ReadImage(str(file)) for name, file in files.items()}
        check_agreement(lesion.name, masks)
        doubted[lesion] = doubt_lesion(masks)
    assert len(doubted) == 104
    assert 0 < sum(said is not None for said in doubted.values()) < 0.1 * len(doubted)
