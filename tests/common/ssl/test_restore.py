"""Restoration: what is hidden, and what the error counts."""

import pytest
import torch

from prostafed.common.ssl import build_method
from prostafed.common.ssl.methods import RestoreParameters
from prostafed.common.ssl.restore import draw_hidden, restoration_error

SPACING = (4.0, 2.0, 2.0)


def test_the_asked_fraction_is_hidden_in_every_case() -> None:
    hidden = draw_hidden(
        (3, 2, 12, 24, 24), SPACING, RestoreParameters(masked_fraction=0.25, block_mm=12.0), torch.Generator()
    )
    assert hidden.shape == (3, 1, 12, 24, 24)
    for case in hidden:
        assert case.mean().item() == pytest.approx(0.25)
    assert not torch.equal(hidden[0], hidden[1])


def test_blocks_are_whole_and_as_large_as_asked_in_millimetres() -> None:
    hidden = draw_hidden((1, 1, 12, 24, 24), SPACING, RestoreParameters(block_mm=12.0), torch.Generator())
    blocks = hidden.reshape(4, 3, 4, 6, 4, 6).movedim((0, 2, 4), (0, 1, 2)).reshape(64, -1)
    assert ((blocks == 0).all(dim=1) | (blocks == 1).all(dim=1)).all()


def test_error_counts_hidden_voxels_only_by_hand() -> None:
    original = torch.ones(2, 1, 1, 1, 4)
    restored = torch.tensor([2.0, 3.0, 30.0, 40.0]).view(1, 1, 1, 1, 4).repeat(2, 1, 1, 1, 1)
    hidden = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).view(2, 1, 1, 1, 4)
    assert restoration_error(restored, original, hidden).item() == pytest.approx((1.5 + 1.0) / 2)


def test_a_sequence_the_case_lacks_is_neither_restored_nor_counted() -> None:
    original = torch.ones(1, 2, 1, 1, 2)
    original[:, 1] = 0
    restored = torch.tensor([1.5, 7.0, 30.0, 40.0]).view(1, 2, 1, 1, 2)
    hidden = torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2)
    assert restoration_error(restored, original, hidden).item() == pytest.approx(0.5)


def test_a_sequence_the_case_lacks_stays_zeros_for_the_encoder() -> None:
    images = torch.randn(1, 2, 6, 24, 24)
    images[:, 1] = 0
    corrupted, _, _ = build_method("restore", RestoreParameters(noise=0.2)).views(images, SPACING, torch.Generator())
    assert corrupted[:, 0].any()
    assert not corrupted[:, 1].any()


def test_it_decomposes_per_case_as_it_claims() -> None:
    generator = torch.Generator().manual_seed(0)
    restored, original = torch.randn(2, 3, 2, 2, 4, 4, generator=generator)
    hidden = (torch.rand(3, 1, 2, 4, 4, generator=generator) < 0.5).float()
    alone = [restoration_error(restored[i : i + 1], original[i : i + 1], hidden[i : i + 1]) for i in range(3)]
    assert torch.allclose(restoration_error(restored, original, hidden), torch.stack(alone).mean())
    assert build_method("restore", RestoreParameters()).decomposes_per_sample


def test_hidden_voxels_do_not_reach_the_encoder() -> None:
    method = build_method("restore", RestoreParameters(noise=0.2))
    images = torch.randn(2, 3, 6, 12, 12, generator=torch.Generator().manual_seed(1)) + 5
    corrupted, original, hidden = method.views(images, SPACING, torch.Generator().manual_seed(2))
    assert (corrupted * hidden == 0).all()
    assert torch.equal(original, images)
    assert ((corrupted - images) * (1 - hidden)).std() > 0.05
