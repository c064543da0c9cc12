"""BYOL: the error by hand and against a slow reference, and which groups learn."""

import pytest
import torch
from torch.nn.functional import normalize

from prostafed.common.models.network import build_network
from prostafed.common.ssl import build_method
from prostafed.common.ssl.byol import bootstrap_error
from prostafed.common.ssl.methods import ByolParameters

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


def make_units(seed: int) -> torch.Tensor:
    return normalize(torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=2)


def test_by_hand() -> None:
    axes = torch.eye(2, dtype=torch.float64)
    first, second = axes[:1], axes[1:]
    assert bootstrap_error(first, first, first, first).item() == 0
    assert bootstrap_error(first, first, first, second).item() == 2  # the first prediction is at a right angle
    assert bootstrap_error(first, first, -first, -first).item() == 8


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_slow_reference(seed: int) -> None:
    q1, q2, t1, t2 = make_units(seed)
    expected = sum(float(((q1[i] - t2[i]) ** 2).sum() + ((q2[i] - t1[i]) ** 2).sum()) for i in range(len(q1))) / len(q1)
    assert bootstrap_error(q1, q2, t1, t2).item() == pytest.approx(expected, abs=1e-12)


def test_gradients_are_those_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(bootstrap_error, tuple(each.clone().requires_grad_() for each in make_units(1)))


def test_predictor_and_encoder_learn_and_the_target_follows() -> None:
    method = build_method("byol", ByolParameters(projection_size=8, momentum=0.75))
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
    compared = method.outputs(network, method.views(torch.randn(2, 2, *SIZE), SPACING, torch.Generator()))
    method.loss(compared, []).backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("target_"), name
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert method.advance is not None
    method.advance(network, compared)
    name = "projection.layers.3.weight"
    expected = 0.75 * before[f"target_{name}"] + 0.25 * before[name]
    assert torch.allclose(network.state_dict()[f"target_{name}"], expected)


def test_it_decomposes_per_case_as_it_claims() -> None:
    units = make_units(2)
    alone = [bootstrap_error(*units[:, i : i + 1]) for i in range(units.shape[1])]
    assert torch.allclose(bootstrap_error(*units), torch.stack(alone).mean())


def test_targets_come_from_the_target_groups_and_predictions_from_the_trained_ones() -> None:
    method = build_method("byol", ByolParameters(projection_size=8))
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
    assert [torch.equal(old, new) for old, new in zip(before, after, strict=True)] == [True, True, False, False]
