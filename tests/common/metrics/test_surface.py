"""Distances between surfaces: by hand, and against scipy and MONAI."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import distance_transform_edt

from prostafed.common.metrics.surface import (
    distance_to,
    find_surface,
    hausdorff_95,
    surface_dice,
    surface_distances,
)

SPACING = (3.0, 0.5, 0.75)


def box(size: tuple[int, int, int], first: tuple[int, int, int], last: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))] = True
    return mask


def blob(seed: int) -> np.ndarray:
    """A ragged ball that does not touch the edge of the grid: MONAI crops there."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (9, 14, 12)), indexing="ij"), axis=-1)
    center, radius = rng.uniform((3, 5, 4), (5, 8, 7)), rng.uniform(1.5, 3.5)
    mask = ((grid - center) ** 2).sum(axis=-1) < radius**2 * rng.uniform(0.6, 1.4, grid.shape[:3])
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    return mask


def test_the_surface_of_a_box_is_its_hull() -> None:
    surface = find_surface(box((7, 7, 7), (1, 1, 1), (5, 5, 5)))
    assert surface.sum() == 5**3 - 3**3
    assert not surface[3, 3, 3]
    assert find_surface(np.ones((3, 3, 3), dtype=bool)).sum() == 26, "the edge of the grid is a surface too"


def test_a_shift_is_measured_in_mm_along_its_axis() -> None:
    a = box((8, 8, 8), (2, 2, 2), (2, 2, 2))
    for axis, spacing in enumerate(SPACING):
        b = np.roll(a, 2, axis=axis)
        there, back = surface_distances(a, b, SPACING)
        assert there.tolist() == back.tolist() == [2 * spacing]
        assert hausdorff_95(a, b, SPACING) == 2 * spacing
        assert surface_dice(a, b, SPACING, 2 * spacing) == 1.0
        assert surface_dice(a, b, SPACING, 2 * spacing - 0.01) == 0.0


def test_surface_dice_counts_voxels_of_both_surfaces() -> None:
    a, b = box((3, 3, 9), (1, 1, 1), (1, 1, 3)), box((3, 3, 9), (1, 1, 3), (1, 1, 7))  # 3 and 5 voxels, 1 in common
    assert surface_dice(a, b, (1, 1, 1), 0.0) == 2 / 8
    assert surface_dice(a, b, (1, 1, 1), 1.0) == 4 / 8


def test_equal_masks_empty_ones_and_a_missed_one() -> None:
    a, none = box((4, 5, 6), (1, 1, 1), (2, 3, 4)), np.zeros((4, 5, 6), dtype=bool)
    assert (hausdorff_95(a, a, SPACING), surface_dice(a, a, SPACING, 0.0)) == (0.0, 1.0)
    assert hausdorff_95(none, none, SPACING) is None
    assert surface_dice(none, none, SPACING, 1.0) is None
    for pair in ((a, none), (none, a)):
        assert hausdorff_95(*pair, SPACING) == pytest.approx((12.0**2 + 2.5**2 + 4.5**2) ** 0.5)
        assert surface_dice(*pair, SPACING, 99.0) == 0.0
    with pytest.raises(ValueError, match="one shape"):
        hausdorff_95(a, a[1:], SPACING)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_as_scipy_and_monai_say(seed: int) -> None:
    a, b = blob(seed), blob(seed + 1)
    if not (a.any() and b.any()):
        return
    expected = distance_transform_edt(~b, sampling=SPACING)
    np.testing.assert_allclose(distance_to(b, SPACING), expected, atol=1e-9)
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (a, b))
    monai = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=SPACING)
    # MONAI interpolates the percentile in float32, whose last digits count times the gap between two distances.
    assert hausdorff_95(a, b, SPACING) == pytest.approx(monai.item(), abs=1e-4)
    monai = compute_surface_dice(one, other, [1.6], include_background=True, spacing=SPACING)
    assert surface_dice(a, b, SPACING, 1.6) == pytest.approx(monai.item(), abs=1e-6)


def test_nothing_to_be_near_to_is_infinitely_far() -> None:
    assert np.isinf(distance_to(np.zeros((2, 2, 2), dtype=bool), SPACING)).all()
