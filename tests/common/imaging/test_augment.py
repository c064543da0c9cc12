"""Augmentation: what is drawn, and that applying it does what it says."""

from dataclasses import replace

import pytest
import torch

from prostafed.common.imaging.augment import (
    Augmentation,
    apply_augmentation,
    apply_geometry,
    apply_intensity,
    draw_augmentation,
    find_present,
    hide_sequences,
)

SPACING = (3.0, 1.0, 1.0)


def nothing(batch: int) -> Augmentation:
    return Augmentation(
        angle_rad=torch.zeros(batch),
        scaling=torch.ones(batch),
        shift_mm=torch.zeros(batch, 3),
        flip=torch.zeros(batch, dtype=torch.bool),
        log_gamma=torch.zeros(batch, 1),
        contrast=torch.ones(batch, 1),
        brightness=torch.zeros(batch, 1),
        noise=torch.zeros(batch),
        noise_seed=0,
        spacing_mm=SPACING,
    )


def marked(z: int, y: int, x: int) -> torch.Tensor:
    volume = torch.zeros(1, 1, 5, 11, 21)
    volume[0, 0, z, y, x] = 1.0
    return volume


def brightest(volume: torch.Tensor) -> tuple[int, int, int]:
    z, y, x = torch.nonzero(volume[0, 0] == volume.max())[0].tolist()
    return z, y, x


def test_drawing_nothing_changes_nothing() -> None:
    images = torch.randn(2, 3, 5, 11, 21, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(apply_augmentation(images, nothing(2)), images, atol=1e-5)


def test_shift_moves_by_millimetres() -> None:
    drawn = replace(nothing(1), shift_mm=torch.tensor([[3.0, 2.0, -4.0]]))
    assert brightest(apply_geometry(marked(3, 7, 6), drawn)) == (2, 5, 10)


def test_a_quarter_turn_is_rigid_on_a_box_that_is_not_square() -> None:
    drawn = replace(nothing(1), angle_rad=torch.tensor([torch.pi / 2]))
    assert brightest(apply_geometry(marked(2, 5, 13), drawn)) in {(2, 2, 10), (2, 8, 10)}


def test_flip_mirrors_left_and_right() -> None:
    drawn = replace(nothing(1), flip=torch.tensor([True]))
    assert brightest(apply_geometry(marked(1, 4, 3), drawn)) == (1, 4, 17)


def test_masks_stay_whole_numbers() -> None:
    masks = torch.randint(3, (2, 3, 5, 11, 21), generator=torch.Generator().manual_seed(0)).float()
    drawn = draw_augmentation(2, SPACING, torch.Generator().manual_seed(1))
    assert set(apply_geometry(masks, drawn, mode="nearest").unique().tolist()) <= {0.0, 1.0, 2.0}


def test_gamma_keeps_sign_and_order() -> None:
    values = torch.linspace(-3, 3, 21).view(1, 1, 1, 1, 21)
    bent = apply_intensity(values, replace(nothing(1), log_gamma=torch.tensor([[0.3]]))).flatten()
    assert (bent.diff() > 0).all()
    assert torch.equal(bent.sign(), values.flatten().sign())


def test_cases_are_drawn_one_by_one_and_again_the_same() -> None:
    images = torch.randn(1, 3, 5, 11, 21, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1, 1)
    drawn = draw_augmentation(2, SPACING, torch.Generator().manual_seed(1))
    first, second = apply_augmentation(images, drawn)
    assert not torch.allclose(first, second)
    again = draw_augmentation(2, SPACING, torch.Generator().manual_seed(1))
    assert torch.equal(apply_augmentation(images, again)[0], first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_sees_the_views_a_cpu_sees() -> None:
    images = torch.randn(2, 3, 5, 11, 21, generator=torch.Generator().manual_seed(0))
    drawn = draw_augmentation(2, SPACING, torch.Generator().manual_seed(1))
    on_gpu = apply_augmentation(images.cuda(), drawn).cpu()
    assert torch.allclose(on_gpu, apply_augmentation(images, drawn), atol=1e-4)


def test_a_missing_sequence_stays_missing() -> None:
    images = torch.randn(3, 2, 4, 8, 8) + 3
    images[1, 0] = 0
    drawn = draw_augmentation(3, SPACING, torch.Generator().manual_seed(0))
    augmented = apply_augmentation(images, drawn)
    assert find_present(augmented).tolist() == [[True, True], [False, True], [True, True]]
    assert torch.equal(augmented[1, 0], torch.zeros(4, 8, 8))


def test_sequences_are_hidden_whole_case_by_case_and_only_where_allowed() -> None:
    images = torch.randn(400, 3, 1, 2, 2)
    seen = hide_sequences(images, [0, 2], torch.Generator().manual_seed(0))
    present = find_present(seen)
    assert present[:, 1].all()
    assert 0.65 < present[:, 0].float().mean() < 0.85
    assert 0.45 < present.all(dim=1).float().mean() < 0.68, "the two are drawn apart"
    assert torch.equal(seen, images * present[:, :, None, None, None])


def test_nothing_is_hidden_or_drawn_where_nothing_may_be_missing() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 1, 2, 2)
    assert hide_sequences(images, [], generator) is images
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())
