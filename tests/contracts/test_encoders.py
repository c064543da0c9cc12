"""What every entry of ENCODERS promises."""

from importlib import import_module

import pytest
import torch
from torch import nn

from prostafed.common.errors import CheckpointError
from prostafed.common.models import ENCODERS, build_encoder, inflate
from prostafed.common.models.encoder import plan_stages
from prostafed.common.study import parse_study

GRID = ((2.0, 1.0, 1.0), (5, 33, 24))


@pytest.mark.parametrize("name", ENCODERS)
def test_features_have_the_sizes_the_plans_say_at_most_resolutions_too(name: str) -> None:
    for count in (2, ENCODERS[name].most_resolutions):
        encoder, size = build_encoder(name, 2, plan_stages(*GRID, 4, count), "instance", tolerant=True), GRID[1]
        images = torch.randn(2, 2, *size)
        features = encoder(images)
        assert len(features) == count
        for plan, found in zip(encoder.plans, features, strict=True):
            size = tuple(-(-voxels // stride) for voxels, stride in zip(size, plan.stride, strict=True))
            assert found.shape == (2, plan.channels, *size)
        assert encoder.describe(images).shape == (2, encoder.vector_size)


@pytest.mark.parametrize("name", ENCODERS)
def test_width_is_used_as_the_entry_says(name: str) -> None:
    narrow, wide = (build_encoder(name, 2, plan_stages(*GRID, width, 2), "instance") for width in (4, 8))
    assert (narrow.vector_size != wide.vector_size) == ENCODERS[name].uses_width


@pytest.mark.parametrize("name", ENCODERS)
def test_one_resolution_more_is_a_sentence(name: str) -> None:
    most = ENCODERS[name].most_resolutions
    study = '{"name": "s", "stage": [{"kind": "pretrain", "rounds": 1}], "model": {"encoder": "%s", "resolutions": %d}}'
    parse_study(study % (name, most))
    with pytest.raises(Exception, match=f"resolutions at most, found|must be at most {most}"):
        parse_study(study % (name, most + 1))


@pytest.mark.parametrize(("name", "weights"), [(name, each) for name in ENCODERS for each in ENCODERS[name].weights])
def test_weights_of_another_network_are_one_sentence(name: str, weights: str) -> None:
    encoder = build_encoder(name, 2, plan_stages(*GRID, 4, 2), "instance")
    assert callable(import_module(ENCODERS[name].weights[weights].module).inflate)
    with pytest.raises(CheckpointError, match="is missing"):
        inflate(name, weights, {"fc.weight": torch.zeros(2)}, encoder)


@pytest.mark.parametrize("name", ENCODERS)
def test_no_encoder_works_in_place_or_keeps_statistics(name: str) -> None:
    encoder = build_encoder(name, 2, plan_stages((1.0, 1.0, 1.0), (16, 16, 16), 4, 3), "group")
    assert not any(getattr(module, "inplace", False) for module in encoder.modules())
    assert not list(encoder.buffers())


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_per_case_by_hooks_are_those_of_each_case_alone(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, 1, plan_stages((2.0, 1.0, 1.0), (4, 16, 16), 4, 2), "group")
    images, seen = torch.randn(3, 1, 4, 16, 16, requires_grad=True), []
    convolution = next(part for part in encoder.modules() if isinstance(part, nn.Conv3d))
    convolution.register_full_backward_hook(lambda module, grad_in, grad_out: seen.append(grad_out[0]))
    encoder.describe(images).sum().backward()
    together = seen.pop()
    for number in range(3):
        encoder.describe(images[number : number + 1]).sum().backward()
        assert torch.allclose(seen.pop()[0], together[number], atol=1e-4)
