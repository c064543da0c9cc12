"""MobileNetV2 as an encoder: the paper's blocks and channels, and the promises every encoder keeps."""

from typing import get_args

import pytest
import torch
from torch import nn

from prostafed.common.imaging.cases import MASKS, CaseRecord
from prostafed.common.models import ENCODERS, build_encoder
from prostafed.common.models.encoder import Encoder, plan_stages
from prostafed.common.models.mobilenet import SETTINGS, InvertedResidual
from prostafed.common.models.network import build_network
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.sparse import seeing_only, shrink
from prostafed.common.ssl.targets import follow
from prostafed.common.study import Finetune
from prostafed.common.study.network import shared_names
from prostafed.common.study.stages import Part
from prostafed.common.tasks import TASKS, build_task

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


def make_encoder(stages: int = 5, norm: str = "instance", tolerant: bool = False, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    plans = plan_stages((3.0, 0.5, 0.5), (20, 256, 256), 32, stages)
    return build_encoder("mobilenet", 3, plans, norm, tolerant)


def test_blocks_channels_strides_and_kernels() -> None:
    encoder = make_encoder()
    blocks = [block for stage in encoder.stages for block in stage if isinstance(block, InvertedResidual)]
    assert [count for settings in SETTINGS for _, _, count in settings] == [1, 2, 3, 4, 3, 3, 1]
    assert len(blocks) == 17
    assert [plan.channels for plan in encoder.plans] == [16, 24, 32, 96, 320]
    assert [plan.stride for plan in encoder.plans] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert [plan.kernel for plan in encoder.plans] == [(1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert [block.adds for block in blocks] == [bool(int(each)) for each in "00101101110110110"]
    depthwise = [part for part in encoder.modules() if isinstance(part, nn.Conv3d) and part.groups > 1]
    assert [part.groups for part in depthwise] == [part.in_channels for part in depthwise]
    assert [part.stride for part in depthwise if part.stride != (1, 1, 1)] == [
        plan.stride for plan in encoder.plans[1:]
    ]


def test_flat_it_has_the_parameters_of_torchvisions_less_the_classifier() -> None:
    flat = build_encoder("mobilenet", 3, plan_stages((90.0, 0.5, 0.5), (3, 256, 256), 32, 5), "instance")
    assert all(plan.kernel == (1, 3, 3) for plan in flat.plans)
    whole, last, classifier = 3_504_872, 320 * 1280 + 2 * 1280, 1280 * 1000 + 1000
    assert sum(parameter.numel() for parameter in flat.parameters()) == whole - last - classifier


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("stages", [2, 4, 5])
def test_features_have_the_sizes_the_plans_say(stages: int, norm: str) -> None:
    encoder = build_encoder("mobilenet", 2, plan_stages((3.0, 1.0, 1.0), (5, 33, 24), 32, stages), norm)
    images = torch.randn(2, 2, 5, 33, 24)
    size = [5, 33, 24]
    for plan, features in zip(encoder.plans, encoder(images), strict=True):
        size = [-(-voxels // stride) for voxels, stride in zip(size, plan.stride, strict=True)]
        assert features.shape == (2, plan.channels, *size)
    assert encoder.describe(images).shape == (2, encoder.vector_size)


def test_a_block_that_halves_does_not_add_its_input() -> None:
    block = InvertedResidual(8, 8, 6, "instance", (3, 3, 3), (2, 2, 2))
    assert block(torch.randn(1, 8, 4, 6, 8)).shape == (1, 8, 2, 3, 4)


def test_its_head_room_is_that_of_the_table() -> None:
    assert ENCODERS["mobilenet"].most_resolutions == len(SETTINGS)


def test_tolerance_adds_a_shift_per_stage_and_changes_nothing_else() -> None:
    plain, tolerant = make_encoder(3), make_encoder(3, tolerant=True)
    images = torch.randn(1, 3, 4, 32, 32)
    images[:, 2] = 0
    assert set(tolerant.state_dict()) - set(plain.state_dict()) == {f"absence.{stage}.weight" for stage in range(3)}
    assert all(torch.equal(*pair) for pair in zip(plain(images), tolerant(images), strict=True))
    nn.init.normal_(tolerant.absence[2].weight)
    assert not torch.allclose(plain(images)[2], tolerant(images)[2], atol=0.1)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_hidden_voxels_change_nothing_that_is_visible(norm: str) -> None:
    encoder = build_encoder("mobilenet", 2, plan_stages(SPACING, SIZE, 4, 3), norm)
    images = torch.randn(1, 2, *SIZE)
    visible = (torch.rand(1, 1, 2, 4, 4) < 0.5).float()
    visible = nn.functional.interpolate(visible, size=SIZE, mode="nearest")
    with seeing_only(encoder, visible):
        pairs = zip(encoder(images), encoder(torch.where(visible.bool(), images, 50.0)), strict=True)
        for first, second in pairs:
            assert torch.equal(first * shrink(visible, first), second * shrink(visible, second))


def make_network(groups: object, encoder: str = "mobilenet", norm: str = "instance") -> nn.ModuleDict:
    return build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=3,
        norm=norm,
        groups=groups,  # type: ignore[arg-type]
        seed=0,
        stage=1,
        encoder=encoder,
    )


def make_batch() -> tuple[torch.Tensor, list[CaseRecord]]:
    images = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    reads = [(4, 5), (2,), (5,), ()]
    return images, [
        CaseRecord(str(number), str(number), pirads_reads=read, cspca=number % 2 == 0, masks=MASKS)
        for number, read in enumerate(reads)
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_it(name: str) -> None:
    method = build_method(name, METHODS[name].parameters())
    network = make_network(method.heads)
    follow(network, method.targets, momentum=0.0)
    images, records = make_batch()
    views = method.views(images, SPACING, torch.Generator().manual_seed(5))
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=1e-3), []
    for _ in range(6):
        optimiser.zero_grad()
        loss = method.loss(method.outputs(network, views), records)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    assert all(parameter.grad is not None for parameter in network["encoder"].parameters())


@pytest.mark.parametrize("name", TASKS)
def test_every_task_takes_it(name: str) -> None:
    task = build_task(name)
    network = make_network(task.heads)
    images, records = make_batch()
    chosen = [number for number, record in enumerate(records) if task.usable(record)]
    targets = task.targets([records[number] for number in chosen], torch.ones(len(chosen), len(MASKS), *SIZE))
    loss = task.loss(task.outputs(network, images[chosen]), targets).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in network["encoder"].parameters())


@pytest.mark.parametrize("part", get_args(Part))
def test_parts_that_stay_local_are_found_in_it(part: Part) -> None:
    network, stage = make_network({}), Finetune(kind="finetune", rounds=1, local=(part,))
    names = set(network.state_dict()) - shared_names(network, stage)
    if part == "stem":
        assert names == {name for name in network.state_dict() if name.startswith("encoder.stages.0.")}
    else:
        assert names == {name for name in network.state_dict() if ".adn.N." in name}
