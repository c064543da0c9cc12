"""What is not seen: sequences that are missing or hidden, and boxes cut out."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from prostafed.common.imaging.augment.draw import Augmentation

HIDDEN_RATE = 0.25


def find_present(images: Tensor) -> Tensor:
    """Return which sequences each case has, (batch, sequence) bool: one that is missing is zeros throughout."""
    return images.flatten(start_dim=2).any(dim=2)


def hide_sequences(images: Tensor, hideable: Sequence[int], generator: Generator) -> Tensor:
    """Return images with each of the `hideable` sequences hidden (zeros) in a case with probability HIDDEN_RATE.

    Sites that have every sequence thereby teach the encoder to do without.
    """
    if not hideable:
        return images
    hidden = torch.zeros(images.shape[:2], dtype=torch.bool)
    hidden[:, list(hideable)] = torch.rand(images.shape[0], len(hideable), generator=generator) < HIDDEN_RATE
    return images * ~hidden.to(images.device)[:, :, None, None, None]


def apply_cutout(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return images (batch, sequence, z, y, x) with each case's box, if it has one, filled with the sequence's mean.

    DeVries and Taylor 2017 (cutout), who cut squares that may lie partly outside and fill with 0. Ours lie inside, in
    mm. A voxel is in the box if its centre is.
    """
    if not drawn.cutout_mm.any():
        return images
    inside = [
        find_inside(n, mm, drawn.cutout_mm[:, axis], drawn.cutout_at[:, axis]).to(images.device)
        for axis, (n, mm) in enumerate(zip(images.shape[2:], drawn.spacing_mm, strict=True))
    ]
    box = inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
    return torch.where(box[:, None], images.mean(dim=(2, 3, 4), keepdim=True), images)


def find_inside(size: int, spacing_mm: float, edge_mm: Tensor, at: Tensor) -> Tensor:
    """Return which of an axis' `size` voxels lie in an interval of `edge_mm` (batch,), placed by `at` (batch,) in
    [0, 1]: (batch, size) bool. An interval longer than the axis covers it.
    """
    start = at * (size * spacing_mm - edge_mm)
    centre = (torch.arange(size) + 0.5) * spacing_mm
    return (centre >= start[:, None]) & (centre < (start + edge_mm)[:, None])
