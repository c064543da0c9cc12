"""Momentum contrast: the loss by hand and against a slow reference, the queue, and what is not trained."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from prostafed.common.models.network import build_network
from prostafed.common.ssl import build_method
from prostafed.common.ssl.methods import MocoParameters
from prostafed.common.ssl.moco import KeyQueue, queue_infonce

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


def reference(q: torch.Tensor, k: torch.Tensor, negatives: torch.Tensor, tau: float) -> float:
    total = 0.0
    for query, key in zip(q, k, strict=True):
        positive = math.exp(float(query @ key) / tau)
        total -= math.log(positive / (positive + sum(math.exp(float(query @ each) / tau) for each in negatives)))
    return total / len(q)


def test_by_hand() -> None:
    axes = torch.eye(2, dtype=torch.float64)
    found = queue_infonce(axes[:1], axes[:1], torch.stack([axes[1], -axes[0]]), temperature=1.0)
    assert found.item() == pytest.approx(math.log(1 + math.exp(-1) + math.exp(-2)))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 6), kept=st.integers(1, 9), seed=st.integers(0, 10_000), tau=st.floats(0.1, 2.0))
def test_agrees_with_the_slow_reference(count: int, kept: int, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, negatives = (
        normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64)) for n in (count, count, kept)
    )
    assert queue_infonce(q, k, negatives, tau).item() == pytest.approx(reference(q, k, negatives, tau), abs=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    z = normalize(torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=2)
    assert torch.autograd.gradcheck(lambda a: queue_infonce(a, z[1], z[2], 0.5), (z[0].clone().requires_grad_(),))


def test_the_queue_holds_the_latest_keys_newest_first() -> None:
    queue = KeyQueue(3, 2)
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(3))
    oldest = queue.keys[0].clone()
    queue.push(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(queue.keys, torch.stack([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), oldest]))
    queue.push(torch.arange(8.0).view(4, 2))
    assert torch.equal(queue.keys, torch.arange(6.0).view(3, 2))
    assert list(queue.state_dict()) == ["keys"]


def test_a_step_moves_the_queue_and_the_target_and_trains_neither() -> None:
    method = build_method("moco", MocoParameters(projection_size=8, queue_size=5, momentum=0.5))
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
    views = method.views(torch.randn(2, 2, *SIZE), SPACING, torch.Generator())
    compared = method.outputs(network, views)
    method.loss(compared, []).backward()
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name.startswith("target_"))
    assert all(parameter.grad is not None for parameter in network["encoder"].parameters())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert method.advance is not None
    method.advance(network, compared)
    assert torch.equal(network["queue"].keys[:2], compared[1])
    assert torch.equal(network["queue"].keys[2:], before["queue.keys"][:3])
    name = "projection.layers.0.weight"
    halfway = (before[name] + before[f"target_{name}"]) / 2
    assert torch.allclose(network.state_dict()[f"target_{name}"], halfway)
    assert torch.equal(network.state_dict()[name], before[name])


def test_keys_come_from_the_target_groups_and_queries_from_the_trained_ones() -> None:
    method = build_method("moco", MocoParameters(projection_size=8))
    network = build_network(
        sequences=2,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=2,
        norm="group",
        groups=method.heads,
        seed=0,
        stage=1,
    )
    views = method.views(torch.randn(2, 2, *SIZE), SPACING, torch.Generator())
    before = method.outputs(network, views)
    with torch.no_grad():
        network["target_projection"].layers[3].bias.add_(torch.arange(8.0))
    after = method.outputs(network, views)
    assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [True, False, True]
