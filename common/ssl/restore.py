"""Restoration: hide blocks of the volume, add noise to the rest, and learn to give the volume back.

After context restoration (Chen et al. 2019) and masked autoencoders (He et al. 2022), for a convolutional encoder. The
loss is the mean absolute error over hidden voxels only, averaged per case, so it decomposes per sample.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate

from prostafed.common.imaging.augment import find_present
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.decoder import UNetDecoder
from prostafed.common.models.encoder import Encoder
from prostafed.common.models.heads import VoxelHead
from prostafed.common.ssl.method import About, Method, Views
from prostafed.common.ssl.methods import MaskParameters, RestoreParameters

ABOUT = About(
    family="restoration of hidden blocks",
    paper="Chen et al. 2019; He et al. 2022",
    equation="mean over cases of mean |restored - image| over hidden voxels",
    when="no reports; lesion maps and contours come next; differential privacy",
)


def draw_hidden(
    shape: Sequence[int], spacing_mm: Sequence[float], parameters: MaskParameters, generator: Generator
) -> Tensor:
    """Return a mask (batch, 1, z, y, x), 1 where a voxel is hidden; the same number of blocks is hidden in
    every case.
    """
    batch, _, *size = shape
    blocks = [max(1, math.ceil(n * mm / parameters.block_mm)) for n, mm in zip(size, spacing_mm, strict=True)]
    count = math.prod(blocks)
    hidden = min(max(1, round(parameters.masked_fraction * count)), max(1, count - 1))
    ranks = torch.rand(batch, count, generator=generator).argsort(dim=1).argsort(dim=1)
    return interpolate((ranks < hidden).float().view(batch, 1, *blocks), size=size, mode="nearest")


def restoration_error(restored: Tensor, original: Tensor, hidden: Tensor) -> Tensor:
    """Return the mean over cases of the mean absolute error over the hidden voxels of the sequences a case has.

    `hidden` is (batch, 1, z, y, x).
    """
    dimensions = (1, 2, 3, 4)
    counted = hidden * find_present(original)[:, :, None, None, None]
    error = ((restored - original).abs() * counted).sum(dim=dimensions)
    return (error / counted.sum(dim=dimensions).clamp_min(1)).mean()


class RestorationHead(nn.Module):
    """A U-Net decoder and one value per voxel and sequence."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.decoder = UNetDecoder(encoder.plans, encoder.norm)
        self.voxels = VoxelHead(encoder.plans[0].channels, encoder.sequences)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return the restored volume (batch, sequence, z, y, x)."""
        restored: Tensor = self.voxels(self.decoder(features))
        return restored


def build(parameters: RestoreParameters) -> Method:
    """Return the method: one corrupted view, a U-Net decoder, mean absolute error over what was hidden."""

    def views(images: Tensor, spacing_mm: tuple[float, float, float], generator: Generator) -> Views:
        hidden = draw_hidden(images.shape, spacing_mm, parameters, generator).to(images.device)
        noise = torch.randn(images.shape, generator=generator).to(images) * parameters.noise
        present = find_present(images)[:, :, None, None, None]
        return (images + noise) * (1 - hidden) * present, images, hidden

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        corrupted, original, hidden = seen
        return network["restoration"](network["encoder"](corrupted)), original, hidden

    def loss(compared: Views, records: Sequence[CaseRecord]) -> Tensor:
        return restoration_error(*compared)

    return Method(
        heads={"restoration": RestorationHead}, views=views, outputs=outputs, loss=loss, decomposes_per_sample=True
    )
