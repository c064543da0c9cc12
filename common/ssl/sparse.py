"""Sparse masked modelling: restore hidden blocks with a convolutional encoder that never computes on them (Tian, Jiang,
Diao, Lin, Wang, Yuan, "SparK", ICLR 2023, arXiv 2301.03580).

Where `restore` shows the encoder zeros in the place of hidden blocks, here no zero enters a statistic: hidden voxels
are zeroed before every convolution and left out of every normalisation, so what stays visible looks to the encoder as
it will in fine-tuning. As in SimMIM (Xie et al. 2022) the loss is the mean absolute error over hidden voxels; SparK
takes the squared error of patches normalised one by one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.encoder import Encoder
from prostafed.common.ssl.method import About, Method, Views
from prostafed.common.ssl.methods import SparseParameters
from prostafed.common.ssl.restore import RestorationHead, draw_hidden, restoration_error

ABOUT = About(
    family="restoration, hidden blocks left out of the computation",
    paper="Tian et al., ICLR 2023, arXiv 2301.03580; loss of SimMIM, Xie et al. 2022",
    equation="as `restore`; hidden voxels enter no convolution and no normalisation",
    when="as `restore`, with much hidden",
)


def shrink(visible: Tensor, features: Tensor) -> Tensor:
    """Return the mask `visible` (batch, 1, z, y, x) at the resolution and in the dtype of `features`."""
    return interpolate(visible, size=features.shape[2:], mode="nearest").to(features.dtype)


def normalise_visible(features: Tensor, visible: Tensor, groups: int, eps: float) -> Tensor:
    """Return features (batch, channels, z, y, x) less the mean and over the standard deviation of their visible voxels,
    per case and group of channels; `visible` (batch, 1, z, y, x) at the features' resolution.
    """
    grouped, shown = features.float().reshape(len(features), groups, -1, *features.shape[2:]), visible.float()[:, None]
    axes = (2, 3, 4, 5)
    count = (shown.sum(dim=axes, keepdim=True) * grouped.shape[2]).clamp_min(1)
    centred = grouped - (grouped * shown).sum(dim=axes, keepdim=True) / count
    variance = (centred.square() * shown).sum(dim=axes, keepdim=True) / count
    return (centred / (variance + eps).sqrt()).reshape(features.shape).to(features.dtype)


@contextmanager
def seeing_only(encoder: nn.Module, visible: Tensor) -> Iterator[None]:
    """Let `encoder` compute only where `visible` (batch, 1, z, y, x) is 1, until the block ends."""

    def zero_hidden(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return inputs[0] * shrink(visible, inputs[0])

    def normalise(module: Any, inputs: tuple[Tensor], dense: Tensor) -> Tensor:
        (features,) = inputs
        groups = module.num_groups if isinstance(module, nn.GroupNorm) else features.shape[1]
        seen = normalise_visible(features, shrink(visible, features), groups, module.eps)
        normalised: Tensor = seen * module.weight[:, None, None, None] + module.bias[:, None, None, None]
        return normalised

    hooks = [part.register_forward_pre_hook(zero_hidden) for part in encoder.modules() if isinstance(part, nn.Conv3d)]
    hooks += [
        part.register_forward_hook(normalise)
        for part in encoder.modules()
        if isinstance(part, nn.InstanceNorm3d | nn.GroupNorm)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class FillingHead(nn.Module):
    """A learnt vector per stage in the place of hidden features, then a U-Net decoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.fillings = nn.ParameterList(0.02 * torch.randn(plan.channels) for plan in encoder.plans)
        self.restoration = RestorationHead(encoder)

    def forward(self, features: Sequence[Tensor], visible: Tensor) -> Tensor:
        """Return the restored volume (batch, sequence, z, y, x); `visible` (batch, 1, z, y, x)."""
        filled = []
        for level, filling in zip(features, self.fillings, strict=True):
            shown = shrink(visible, level)
            filled.append(level * shown + filling[:, None, None, None] * (1 - shown))
        restored: Tensor = self.restoration(filled)
        return restored


def build(parameters: SparseParameters) -> Method:
    """Return the method: visible blocks through the encoder, a U-Net decoder, error over what was hidden."""

    def views(images: Tensor, spacing_mm: tuple[float, float, float], generator: Generator) -> Views:
        return images, draw_hidden(images.shape, spacing_mm, parameters, generator).to(images.device)

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        images, hidden = seen
        visible = 1 - hidden
        with seeing_only(network["encoder"], visible):
            features = network["encoder"](images * visible)
        return network["restoration"](features, visible), images, hidden

    def loss(compared: Views, records: Sequence[CaseRecord]) -> Tensor:
        return restoration_error(*compared)

    return Method(
        heads={"restoration": FillingHead}, views=views, outputs=outputs, loss=loss, decomposes_per_sample=True
    )
