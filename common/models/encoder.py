"""A 3D encoder whose strides and kernels follow the anisotropy of the grid; its stages are residual blocks unless
another builder of stages is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prostafed.common.imaging.augment import find_present

MAX_CHANNELS = 320
MIN_VOXELS_TO_HALVE = 8  # an axis is halved while at least four voxels remain

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class StagePlan:
    """One resolution: its channels, the stride it is entered with and its kernel, both (z, y, x)."""

    channels: int
    stride: Triple
    kernel: Triple


def plan_stages(spacing_mm: Sequence[float], size: Sequence[int], width: int, stages: int) -> tuple[StagePlan, ...]:
    """Return the stages of an encoder for a grid: coarse axes are neither halved nor convolved until the others caught
    up.

    The rules of nnU-Net (Isensee et al. 2021): an axis is halved while its spacing is below twice the finest one that
    can still be halved; it is convolved from the stage on at which its spacing is below twice the finest one.
    """
    spacing, voxels, kernel, plans = list(spacing_mm), list(size), [1, 1, 1], []
    for stage in range(stages):
        kernel = [3 if axis < 2 * min(spacing) else before for axis, before in zip(spacing, kernel, strict=True)]
        open_to_halve = [axis for axis, count in zip(spacing, voxels, strict=True) if count >= MIN_VOXELS_TO_HALVE]
        stride = [
            2 if stage > 0 and count >= MIN_VOXELS_TO_HALVE and axis < 2 * min(open_to_halve) else 1
            for axis, count in zip(spacing, voxels, strict=True)
        ]
        spacing = [axis * step for axis, step in zip(spacing, stride, strict=True)]
        voxels = [math.ceil(count / step) for count, step in zip(voxels, stride, strict=True)]
        plans.append(StagePlan(min(width * 2**stage, MAX_CHANNELS), _triple(stride), _triple(kernel)))
    return tuple(plans)


def _triple(values: Sequence[int]) -> Triple:
    z, y, x = values
    return z, y, x


def norm_layer(norm: str, channels: int) -> tuple[str, dict[str, object]]:
    """Return MONAI's description of a normalisation that survives averaging and per-sample gradients (no BatchNorm)."""
    if norm == "group":
        return "GROUP", {"num_groups": math.gcd(8, channels), "num_channels": channels}
    return "INSTANCE", {"affine": True}


def residual_block(inputs: int, plan: StagePlan, norm: str, subunits: int = 2, stride: Triple = (1, 1, 1)) -> nn.Module:
    """Return MONAI's residual unit; out of place throughout, so that per-sample gradient hooks work on it."""
    from monai.networks.blocks import ResidualUnit  # MONAI loads in seconds: who builds no network does not wait

    block: nn.Module = ResidualUnit(
        spatial_dims=3,
        in_channels=inputs,
        out_channels=plan.channels,
        strides=stride,
        kernel_size=plan.kernel,
        subunits=subunits,
        act=("LEAKYRELU", {"negative_slope": 0.01, "inplace": False}),
        norm=norm_layer(norm, plan.channels),
    )
    return block


def residual_stages(sequences: int, plans: Sequence[StagePlan], norm: str) -> list[nn.Module]:
    """Return one residual block per plan: the stages of the encoder "resenc"."""
    inputs = [sequences, *(plan.channels for plan in plans[:-1])]
    return [
        residual_block(channels, plan, norm, stride=plan.stride) for channels, plan in zip(inputs, plans, strict=True)
    ]


# (sequences, plans, norm) -> one module per plan, which enters its resolution and gives its channels
Stages = Callable[[int, Sequence[StagePlan], str], Sequence[nn.Module]]


class Encoder(nn.Module):
    """Maps images (batch, sequence, z, y, x) to one feature map per stage, finest first.

    With `tolerant` the encoder knows which sequences a case lacks (they are zeros throughout): each stage shifts its
    features by a learnt vector per missing sequence, as FiLM does (Perez et al. 2018). Zeros alone would look like a
    sequence without contrast, and the normalisation layers would hide even that.
    """

    def __init__(
        self,
        sequences: int,
        plans: Sequence[StagePlan],
        norm: str,
        tolerant: bool = False,
        make_stages: Stages = residual_stages,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(make_stages(sequences, plans, norm))
        shifts = [nn.Linear(sequences, plan.channels, bias=False) for plan in plans if tolerant]
        for shift in shifts:
            nn.init.zeros_(shift.weight)
        self.absence = nn.ModuleList(shifts)
        self.plans = tuple(plans)
        self.norm = norm
        self.sequences = sequences

    @property
    def vector_size(self) -> int:
        """Length of what `describe` returns for one image."""
        return 2 * self.plans[-1].channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps (batch, channels, z, y, x) of every stage."""
        absent = (~find_present(images)).to(images.dtype) if len(self.absence) else None
        features = []
        for number, stage in enumerate(self.stages):
            images = stage(images)
            if absent is not None:
                images = images + self.absence[number](absent)[:, :, None, None, None]
            features.append(images)
        return features

    def describe(self, images: Tensor) -> Tensor:
        """Return one vector per image, (batch, vector_size): mean and maximum of the deepest features.

        The maximum keeps what a lesion of a few voxels says, which the mean over a whole prostate drowns.
        """
        deepest: Tensor = self(images)[-1].flatten(start_dim=2)
        return torch.cat([deepest.mean(dim=2), deepest.amax(dim=2)], dim=1)


def build(sequences: int, plans: Sequence[StagePlan], norm: str, tolerant: bool = False) -> Encoder:
    """Return the encoder "resenc"."""
    return Encoder(sequences, plans, norm, tolerant)
