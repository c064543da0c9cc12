"""Encoder, decoder, heads and checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prostafed.common.errors import CheckpointError
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.models.decoder import UNetDecoder
from prostafed.common.models.encoder import Encoder, plan_stages
from prostafed.common.models.heads import ClassificationHead, VoxelHead
from prostafed.common.models.network import build_network
from prostafed.common.tensors import read_tensors, select_groups, write_tensors


def make_network(seed: int = 0, width: int = 4, stage: int = 1, norm: str = "instance") -> nn.ModuleDict:
    return build_network(
        sequences=3,
        spacing_mm=(3.0, 1.0, 1.0),
        size=(6, 24, 24),
        width=width,
        stages=3,
        norm=norm,
        groups={"head": lambda encoder: ClassificationHead(encoder.vector_size)},
        seed=seed,
        stage=stage,
    )


def test_coarse_axis_is_left_alone_until_the_others_caught_up() -> None:
    plans = plan_stages((3.0, 0.5, 0.5), (20, 256, 256), 32, 5)
    assert [plan.stride for plan in plans] == [(1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    assert [plan.kernel for plan in plans] == [(1, 3, 3), (1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)]
    assert [plan.channels for plan in plans] == [32, 64, 128, 256, 320]


def test_a_small_axis_is_never_halved_away() -> None:
    plans = plan_stages((1.0, 1.0, 1.0), (9, 64, 64), 8, 6)
    assert np.prod([plan.stride[0] for plan in plans]) == 2
    assert np.prod([plan.stride[1] for plan in plans]) == 16


@pytest.mark.parametrize("norm", ["instance", "group"])
@pytest.mark.parametrize("size", [(6, 24, 24), (7, 25, 23), (5, 17, 31)])
def test_decoder_returns_to_full_resolution_whatever_the_size(size: tuple[int, int, int], norm: str) -> None:
    plans = plan_stages((1.5, 1.0, 1.0), size, 4, 3)
    encoder, decoder = Encoder(2, plans, norm), UNetDecoder(plans, norm)
    features = encoder(torch.randn(2, 2, *size))
    assert decoder(features).shape == (2, 4, *size)
    assert encoder.describe(torch.randn(2, 2, *size)).shape == (2, encoder.vector_size)


def make_tolerant(tolerant: bool) -> Encoder:
    torch.manual_seed(0)
    return Encoder(2, plan_stages((1.5, 1.0, 1.0), (6, 16, 16), 4, 3), "instance", tolerant)


def test_a_tolerant_encoder_is_told_which_sequence_is_missing() -> None:
    encoder = make_tolerant(True)
    for shift in encoder.absence:
        nn.init.normal_(shift.weight)
    images = torch.randn(2, 2, 6, 16, 16)
    images[1, 1] = 0
    told = encoder(images)
    for shift in encoder.absence:
        nn.init.zeros_(shift.weight)
    untold = encoder(images)
    for with_shift, without in zip(told, untold, strict=True):
        assert torch.allclose(with_shift[0], without[0], atol=1e-5), "nothing is missing in the first case"
        assert (with_shift[1] - without[1]).abs().mean() > 0.1


def test_only_a_tolerant_encoder_has_the_tensors_for_it() -> None:
    plain, tolerant = make_tolerant(False).state_dict(), make_tolerant(True).state_dict()
    assert set(tolerant) - set(plain) == {f"absence.{stage}.weight" for stage in range(3)}
    assert all(torch.equal(plain[name], tolerant[name]) for name in plain)
    assert not any(tolerant[name].any() for name in set(tolerant) - set(plain)), "it starts without a shift"


def test_nothing_in_the_network_works_in_place() -> None:
    plans = plan_stages((1.0, 1.0, 1.0), (16, 16, 16), 4, 3)
    for module in nn.ModuleList([Encoder(1, plans, "group"), UNetDecoder(plans, "group")]).modules():
        assert not getattr(module, "inplace", False)


def test_a_detection_head_starts_at_its_prior() -> None:
    head = VoxelHead(4, 1, prior=0.01)
    assert torch.sigmoid(head(torch.zeros(1, 4, 1, 1, 1))).item() == pytest.approx(0.01, abs=1e-5)


def test_groups_have_seeds_of_their_own() -> None:
    first, other_stage, other_seed = (
        read_tensors(make_network()),
        read_tensors(make_network(stage=2)),
        read_tensors(make_network(1)),
    )
    name, head = "encoder.stages.0.conv.unit0.conv.weight", "head.layers.1.weight"
    np.testing.assert_array_equal(first[name], other_stage[name])
    assert (first[head] != other_stage[head]).any()
    assert (first[name] != other_seed[name]).any()


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    make_network()
    assert torch.rand(1) == expected


def test_a_checkpoint_of_one_group_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    saved, network = make_network(seed=1), make_network(seed=2)
    encoder = select_groups(read_tensors(saved), ["encoder"])
    save_checkpoint(tmp_path / "model.safetensors", encoder, {"study_hash": "abc"})
    head = read_tensors(network)["head.layers.1.weight"]
    tensors, metadata = read_checkpoint(tmp_path / "model.safetensors")
    write_tensors(network, tensors)
    assert metadata == {"study_hash": "abc"}
    np.testing.assert_array_equal(read_tensors(network)["head.layers.1.weight"], head)
    for name, array in encoder.items():
        np.testing.assert_array_equal(read_tensors(network)[name], array)


def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    network = make_network()
    before = read_tensors(network)
    save_checkpoint(tmp_path / "model.safetensors", read_tensors(make_network(width=8)), {})
    with pytest.raises(CheckpointError, match="do not fit"):
        write_tensors(network, read_checkpoint(tmp_path / "model.safetensors")[0])
    for name, array in read_tensors(network).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("kept_bytes", [0, 5, 200])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, read_tensors(make_network()), {})
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        read_checkpoint(path)
