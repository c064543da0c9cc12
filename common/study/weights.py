"""The weights a study's encoder starts from: those of an earlier run, or of a 2D network trained on photographs."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models.checkpoint import list_left_out, read_checkpoint, read_weights
from prostafed.common.models.encoder import Encoder
from prostafed.common.models.mobilenet import InvertedResidual
from prostafed.common.shell.progress import Said, tell
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.study.split import check_split
from prostafed.common.tensors import Tensors, check_layout, read_tensors, select_groups

RGB = 3  # channels of a photograph
STEM_KERNEL = "features.0.0.weight"  # of torchvision: the one that sees the colours


def load_initial(study: Study, path: Path | None) -> Tensors:
    """Return the encoder's tensors that `study` starts from, named as the network's; {} for random ones. Those of it
    that the run which wrote a checkpoint did not train are not among them: they start as drawn, which is told.

    Raises ConfigurationError where `path` is missing, not wanted, or not the file whose SHA-256 the study names, and
    CheckpointError where its tensors do not fit the study's encoder or hold nothing of it, or it may have seen the
    study's test patients.
    """
    initial = study.initial
    if initial.weights == "random":
        if path is not None:
            raise ConfigurationError(
                f"The study starts from random weights, and {path} was given to start from. Leave it out, or set "
                "weights and sha256 in the study's [initial]."
            )
        return {}
    if path is None:
        raise ConfigurationError(
            f"The study starts from a file ({initial.weights}) with the SHA-256 {initial.sha256}, and none was given. "
            "Name it with --initial FILE."
        )
    assert initial.sha256 is not None, "the study file asks for it"
    _check_sha256(path, initial.sha256)
    network = build_stage_network(study, 1)
    encoder = network["encoder"]
    assert isinstance(encoder, Encoder)
    if initial.weights == "checkpoint":
        return _read_encoder(study, path, select_groups(read_tensors(network), ["encoder"]))
    weights = read_weights(path)
    try:
        return inflate(weights, encoder)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _read_encoder(study: Study, path: Path, expected: Tensors) -> Tensors:
    """Return the tensors of `expected` that a run trained into `path`; tell of others, which the file has to name."""
    tensors, metadata = read_checkpoint(path)
    found, left_out = select_groups(tensors, ["encoder"]), list_left_out(path, metadata)
    if not found:
        raise CheckpointError(
            f"{path} holds no trained encoder: its run shared none. Name the model of another run, or let the study "
            "start from random weights."
        )
    try:
        check_layout({name: array for name, array in expected.items() if name not in left_out}, found)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    check_split(study, metadata, path)
    if missing := sorted(left_out & set(expected)):
        text = f"{path} lacks {len(missing)} of the encoder's {len(expected)} tensors, e.g. {missing[0]}, which its run"
        tell(Said("initial", f"{text} did not train in common (local, share). They start as drawn."))
    return found


def _check_sha256(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    if found != expected:
        raise ConfigurationError(
            f"The study starts from the file with the SHA-256 {expected}, that of {path} is {found}. Name the right "
            "file, or, to start from this one, put its SHA-256 into the study's [initial]: that makes another study."
        )


def inflate(state: Mapping[str, Tensor], encoder: Encoder) -> Tensors:
    """Return the tensors of a MobileNetV2 `encoder`, started from `state`, the state dict of torchvision's 2D one.

    A kernel is repeated along z and divided by its depth, so that a stack of equal slices gives, away from its ends,
    what one slice gave (I3D: Carreira & Zisserman, CVPR 2017). Red, green and blue become three sequences; another
    number n of them gets their mean, times 3/n, so that equal inputs give what they gave. The affine of BatchNorm
    becomes that of instance or group normalisation. Its running mean and variance are dropped: they describe
    photographs, while these layers take each image's own statistics. Dropped as well: the classifier and what the
    encoder does not have of the network. What `state` does not have, the shifts for missing sequences, stays as it is.

    Raises CheckpointError, naming the first tensor that is missing or has another shape.
    """
    tensors = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    for ours, theirs in _correspondence(encoder):
        if theirs not in state:
            raise CheckpointError(
                f"The weights are not those of torchvision's MobileNetV2: {theirs} is missing. Name a file such as "
                "mobilenet_v2-b0353104.pth."
            )
        grown = _grow(state[theirs].detach().float(), tensors[ours].shape, stem=theirs == STEM_KERNEL)
        if grown.shape != tensors[ours].shape:
            raise CheckpointError(
                f"The weights are not those of torchvision's MobileNetV2: {theirs} is {list(state[theirs].shape)}, "
                f"which cannot become {list(tensors[ours].shape)}. Name a file such as mobilenet_v2-b0353104.pth."
            )
        tensors[ours] = grown
    return {f"encoder.{name}": tensors[name].numpy(force=True) for name in sorted(tensors)}


def _grow(weights: Tensor, shape: torch.Size, stem: bool) -> Tensor:
    """Return a 2D kernel (out, in, y, x) as one of `shape` (out, in, z, y, x); other tensors as they are.

    That of the `stem` sees colours, and here sequences.
    """
    if weights.dim() != 4 or len(shape) != 5:
        return weights
    sequences, depth = shape[1], shape[2]
    if stem and sequences != RGB:
        weights = weights.mean(dim=1, keepdim=True).expand(-1, sequences, -1, -1) * (RGB / sequences)
    return weights[:, :, None].expand(-1, -1, depth, -1, -1).contiguous() / depth


def _correspondence(encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Yield (name of a tensor here, its name in torchvision), block by block."""
    number = 0
    for stage, blocks in enumerate(encoder.stages):
        assert isinstance(blocks, nn.Sequential), "only the encoder 'mobilenet' has such stages"
        for place, block in enumerate(blocks):
            ours, theirs = f"stages.{stage}.{place}", f"features.{number}"
            if isinstance(block, InvertedResidual):
                last = len(block.layers) - 1
                for layer in range(last):
                    yield from _layer(f"{ours}.layers.{layer}", f"{theirs}.conv.{layer}.0", f"{theirs}.conv.{layer}.1")
                yield from _layer(f"{ours}.layers.{last}", f"{theirs}.conv.{last}", f"{theirs}.conv.{last + 1}")
            else:
                yield from _layer(ours, f"{theirs}.0", f"{theirs}.1")
            number += 1


def _layer(ours: str, kernel: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv.weight", f"{kernel}.weight"
    yield f"{ours}.adn.N.weight", f"{norm}.weight"
    yield f"{ours}.adn.N.bias", f"{norm}.bias"
