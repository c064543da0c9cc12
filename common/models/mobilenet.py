"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov, Chen, CVPR 2018, table 2) as a 3D encoder: its blocks and channels, our
strides and kernels.

Departures from the paper: the stem keeps the resolution (a prostate is a few dozen voxels wide), strides are those of
the grid's plan, instance or group normalisation replaces BatchNorm, and the last 1x1 convolution to 1280 channels is
left out, since it belongs to the classifier. Nothing works in place, so per-sample gradient hooks work on it.
"""

from collections.abc import Sequence
from dataclasses import replace

from monai.networks.blocks import Convolution
from torch import Tensor, nn

from prostafed.common.models.encoder import Encoder, StagePlan, Triple, norm_layer

STEM = 32
# Per resolution of the paper: (expansion, channels, blocks), in the order of its table.
SETTINGS = (
    ((1, 16, 1),),
    ((6, 24, 2),),
    ((6, 32, 3),),
    ((6, 64, 4), (6, 96, 3)),
    ((6, 160, 3), (6, 320, 1)),
)
POINT: Triple = (1, 1, 1)


def convolve(
    inputs: int,
    outputs: int,
    norm: str,
    kernel: Triple = POINT,
    stride: Triple = POINT,
    depthwise: bool = False,
    linear: bool = False,
) -> nn.Module:
    """Return a convolution, its normalisation and, unless `linear`, ReLU6."""
    layer: nn.Module = Convolution(
        spatial_dims=3,
        in_channels=inputs,
        out_channels=outputs,
        kernel_size=kernel,
        strides=stride,
        groups=inputs if depthwise else 1,
        bias=False,
        adn_ordering="N" if linear else "NA",
        act=("RELU6", {"inplace": False}),
        norm=norm_layer(norm, outputs),
    )
    return layer


class InvertedResidual(nn.Module):
    """Widen by `expansion`, filter every channel by itself, narrow again without activation (the paper's figure 3)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, norm: str, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        wide = inputs * expansion
        widen = [convolve(inputs, wide, norm)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen,
            convolve(wide, wide, norm, kernel, stride, depthwise=True),
            convolve(wide, outputs, norm, linear=True),
        )
        self.adds = inputs == outputs and stride == POINT

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's output, added to its input where their shapes agree."""
        filtered: Tensor = self.layers(features)
        return features + filtered if self.adds else filtered


def mobile_stages(sequences: int, plans: Sequence[StagePlan], norm: str) -> list[nn.Module]:
    """Return the stages: blocks of one resolution in a row, the stem before the first."""
    stages: list[nn.Module] = []
    channels = STEM
    for plan, settings in zip(plans, SETTINGS, strict=False):
        blocks = [] if stages else [convolve(sequences, STEM, norm, plan.kernel, plan.stride)]
        stride = plan.stride if stages else POINT
        for expansion, outputs, count in settings:
            for _ in range(count):
                blocks.append(InvertedResidual(channels, outputs, expansion, norm, plan.kernel, stride))
                channels, stride = outputs, POINT
        stages.append(nn.Sequential(*blocks))
    return stages


def build(sequences: int, plans: Sequence[StagePlan], norm: str, tolerant: bool = False) -> Encoder:
    """Return the encoder: strides and depth of kernels as `plans` say, channels and 3 x 3 in the plane as the paper."""
    own = [
        replace(plan, channels=settings[-1][1], kernel=(plan.kernel[0], 3, 3))
        for plan, settings in zip(plans, SETTINGS, strict=False)
    ]
    assert len(own) == len(plans), "the study file allows no more stages than MobileNetV2 has resolutions"
    return Encoder(sequences, own, norm, tolerant, mobile_stages)
