"""Sparse masking: hidden voxels touch nothing, and with nothing hidden the encoder is the one it was."""

import pytest
import torch

from prostafed.common.models.encoder import Encoder, plan_stages
from prostafed.common.ssl import build_method
from prostafed.common.ssl.methods import SparseParameters
from prostafed.common.ssl.restore import draw_hidden
from prostafed.common.ssl.sparse import FillingHead, normalise_visible, seeing_only, shrink

SPACING, SIZE = (3.0, 1.5, 1.5), (8, 16, 16)


def make_encoder(norm: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(2, plan_stages(SPACING, SIZE, 4, 3), norm)


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 2, *SIZE, generator=generator)
    return images, 1 - draw_hidden(images.shape, SPACING, SparseParameters(block_mm=6.0), generator)


def test_normalisation_counts_visible_voxels_only_by_hand() -> None:
    features = torch.tensor([1.0, 3.0, 100.0]).view(1, 1, 1, 1, 3)
    visible = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 1, 1, 3)
    assert normalise_visible(features, visible, 1, eps=0.0).flatten()[:2].tolist() == [-1.0, 1.0]
    assert torch.isfinite(normalise_visible(features, torch.zeros_like(visible), 1, eps=1e-5)).all()


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_with_everything_visible_the_encoder_gives_what_it_gives_without(norm: str) -> None:
    encoder, (images, visible) = make_encoder(norm), make_batch()
    with seeing_only(encoder, torch.ones_like(visible)):
        seen = encoder(images)
    for ours, plain in zip(seen, encoder(images), strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_what_is_hidden_changes_nothing_that_is_visible(norm: str) -> None:
    encoder, (images, visible) = make_encoder(norm), make_batch()
    other = torch.where(visible.bool(), images, 50.0)
    with seeing_only(encoder, visible):
        pairs = list(zip(encoder(images), encoder(other), strict=True))
    for first, second in pairs:
        shown = shrink(visible, first)
        assert 0 < shown.mean() < 1
        assert torch.equal(first * shown, second * shown)
    plain = encoder(other)
    assert not torch.allclose(plain[0] * visible, pairs[0][0] * visible, atol=1e-2)


def test_the_encoder_is_left_as_it_was_even_after_an_error() -> None:
    encoder, (images, visible) = make_encoder("instance"), make_batch()
    before = encoder(images)
    with pytest.raises(ZeroDivisionError), seeing_only(encoder, visible):
        raise ZeroDivisionError
    assert all(torch.equal(first, second) for first, second in zip(before, encoder(images), strict=True))


def test_hidden_features_are_filled_with_the_learnt_vector() -> None:
    encoder, (images, visible) = make_encoder("instance"), make_batch()
    head = FillingHead(encoder)
    features = encoder(images)
    other = [level + 7 * (1 - shrink(visible, level)) for level in features]
    assert torch.equal(head(features, visible), head(other, visible))
    head(features, visible).sum().backward()
    assert all(filling.grad is not None and filling.grad.any() for filling in head.fillings)


def test_the_asked_fraction_is_hidden_and_never_reaches_the_encoder() -> None:
    method = build_method("sparse", SparseParameters(masked_fraction=0.25, block_mm=6.0))
    images, hidden = method.views(make_batch()[0], SPACING, torch.Generator())
    assert hidden.mean().item() == pytest.approx(0.25, abs=0.02)
    encoder = make_encoder("instance")
    network = torch.nn.ModuleDict({"encoder": encoder, "restoration": FillingHead(encoder)})
    restored, _, _ = method.outputs(network, (images, hidden))
    again, _, _ = method.outputs(network, (images * (1 - hidden), hidden))
    assert torch.equal(restored, again)


@pytest.mark.parametrize("norm", [torch.nn.InstanceNorm3d(4, affine=True), torch.nn.GroupNorm(2, 4)])
def test_the_encoders_normalisation_leaves_hidden_voxels_out(norm: torch.nn.Module) -> None:
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(5.0)
    _, visible = make_batch()
    features = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(4))
    features = torch.where(visible.bool(), features, 100.0)
    with seeing_only(torch.nn.ModuleList([norm]), visible):
        seen = norm(features)
    for case, shown in zip(seen, visible[:, 0].bool(), strict=True):
        assert case[:, shown].mean().item() == pytest.approx(5.0, abs=1e-4)
        assert case[:, shown].var(correction=0).item() == pytest.approx(4.0, abs=1e-3)


def test_visible_features_are_not_filled() -> None:
    encoder, (images, visible) = make_encoder("instance"), make_batch()
    head, features = FillingHead(encoder), encoder(images)
    assert torch.equal(head(features, torch.ones_like(visible)), head.restoration(features))
