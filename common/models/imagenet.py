"""ImageNet weights: those of torchvision's 2D MobileNetV2, inflated to our 3D one."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from prostafed.common.errors import CheckpointError
from prostafed.common.models.encoder import Encoder
from prostafed.common.models.mobilenet import InvertedResidual
from prostafed.common.tensors import Tensors

RGB = 3  # channels of a photograph
STEM_KERNEL = "features.0.0.weight"  # of torchvision: the one that sees the colours


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
