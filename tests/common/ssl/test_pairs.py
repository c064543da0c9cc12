"""What the methods of two views have in common."""

import pytest
import torch

from prostafed.common.models.network import build_network
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.pairs import attraction, log_softmax_of_others, project, two_views

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


@pytest.mark.parametrize("name", ["conditional", "simclr", "vicreg", "barlow"])
def test_projections_have_length_1_unless_their_statistics_are_the_loss(name: str) -> None:
    method = build_method(name, METHODS[name].parameters())
    network = build_network(
        sequences=2,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=2,
        norm="instance",
        groups=method.heads,
        seed=0,
        stage=1,
    )
    images = torch.randn(3, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    z1, z2 = method.outputs(network, (images, images + 1))
    assert z1.shape == z2.shape == (3, 64)
    unit = torch.allclose(z1.norm(dim=1), torch.ones(3)) and torch.allclose(z2.norm(dim=1), torch.ones(3))
    assert unit == (name in ("conditional", "simclr"))
    with torch.autocast("cpu", torch.bfloat16):
        assert project(network, images).dtype == torch.float32


def test_the_two_views_are_drawn_independently() -> None:
    images = torch.randn(2, 2, *SIZE)
    first, second = two_views(images, SPACING, torch.Generator().manual_seed(0))
    assert first.shape == second.shape == images.shape
    assert not torch.allclose(first, second)


def test_attraction_by_hand() -> None:
    kernel = torch.tensor([[0.9, 0.5], [0.5, 0.9]])  # the diagonal is not looked at
    expected = (
        torch.tensor([[0.0, 0.5, 1.0, 0.5], [0.5, 0.0, 0.5, 1.0], [1.0, 0.5, 0.0, 0.5], [0.5, 1.0, 0.5, 0.0]]) / 2
    )
    assert torch.allclose(attraction(kernel, expected), expected)


def test_the_others_share_all_probability() -> None:
    z = torch.eye(3, dtype=torch.float64)
    found = log_softmax_of_others(z, 0.1)
    assert not found.diagonal().any()
    assert torch.allclose(found[0, 1:].exp(), torch.full((2,), 0.5, dtype=torch.float64))
