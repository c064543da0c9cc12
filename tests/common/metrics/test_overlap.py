import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from prostafed.common.metrics.overlap import dice, volume_difference


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([1, 1, 0], [1, 1, 0], 1),
        ([1, 1, 0], [0, 0, 1], 0),
        ([1, 1, 0], [0, 1, 1], 1 / 2),
        ([2, 0, 0], [1, 1, 0], 2 / 3),  # any value above 0 is inside
        ([0, 0, 0], [1, 0, 0], 0),
        ([0, 0, 0], [0, 0, 0], None),
    ],
)
def test_dice_by_hand(predicted: list[int], true: list[int], expected: float | None) -> None:
    assert dice(predicted, true) == expected
    assert dice(true, predicted) == expected


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([1, 1, 1, 0], [0, 1, 1, 0], 1 / 2),
        ([0, 1, 0, 0], [0, 1, 1, 0], 1 / 2),  # too little is as wrong as too much
        ([1, 0, 0, 1], [0, 1, 1, 0], 0),  # where they lie does not count
        ([0, 0, 0, 0], [0, 1, 1, 0], 1),
        ([0, 1, 1, 0], [0, 0, 0, 0], None),
    ],
)
def test_volume_difference_by_hand(predicted: list[int], true: list[int], expected: float | None) -> None:
    assert volume_difference(predicted, true) == expected


def test_masks_must_have_one_shape() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice([1], [1, 0])


@pytest.mark.parametrize("seed", range(10))
def test_dice_as_monai_says(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = (generator.random((4, 9, 9)) < generator.uniform(0.1, 0.9) for _ in range(2))
    one, other = (torch.from_numpy(mask)[None, None].float() for mask in (a, b))
    assert dice(a, b) == pytest.approx(compute_dice(one, other).item(), abs=1e-6)
    assert volume_difference(a, b) == pytest.approx(abs(a.mean() - b.mean()) / b.mean(), abs=1e-12)
