"""Resolution in the plane of the slices: Gaussian blur and Gibbs ringing, in one pass through k-space."""

import math

import torch
from torch import Tensor

from prostafed.common.imaging.augment.draw import Augmentation


def apply_resolution(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return images (batch, sequence, z, y, x), blurred and truncated in k-space, both along y and x.

    Truncation leaves out the high frequencies, as a small acquisition matrix does, and edges ring. Slices are measured
    one by one and are thicker than any blur drawn, so nothing happens along z. k-space is periodic: what is blurred
    across one edge of a slice comes in at the opposite one.
    """
    chosen = ((drawn.blur_mm > 0) | (drawn.kept_frequency < 1)).nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    height, width = images.shape[-2:]
    dy, dx = drawn.spacing_mm[1:]
    along_y = transfer(torch.fft.fftfreq(height, dy), dy, drawn.blur_mm[chosen], drawn.kept_frequency[chosen])
    along_x = transfer(torch.fft.rfftfreq(width, dx), dx, drawn.blur_mm[chosen], drawn.kept_frequency[chosen])
    passed = along_y[:, None, None, :, None] * along_x[:, None, None, None, :]
    index = chosen.to(images.device)
    spectrum = torch.fft.rfft2(images[index]) * passed.to(images)
    return images.index_copy(0, index, torch.fft.irfft2(spectrum, s=(height, width)))


def transfer(frequency: Tensor, spacing_mm: float, blur_mm: Tensor, kept: Tensor) -> Tensor:
    """Return the factor (batch, n) on each `frequency` (n,), in cycles per mm.

    That of a Gaussian of standard deviation `blur_mm` (batch,), exp(-2 pi^2 sigma^2 f^2), up to the fraction `kept`
    (batch,) of the highest frequency, 1 / (2 spacing), and 0 beyond.
    """
    gaussian = torch.exp(-2 * (math.pi * blur_mm[:, None] * frequency) ** 2)
    return gaussian * (frequency.abs() * 2 * spacing_mm <= kept[:, None])
