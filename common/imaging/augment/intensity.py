"""Intensities of a case: gamma, contrast, brightness and noise; and the slow shading that a receive coil leaves."""

import torch
from torch import Generator, Tensor

from prostafed.common.imaging.augment.draw import Augmentation


def apply_intensity(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return images (batch, sequence, z, y, x) with each case's gamma (on the magnitude of the z-score), contrast,
    brightness and noise; the noise is drawn on the CPU wherever the images lie.
    """

    def per_case(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1, 1).to(images)

    bent = images.sign() * images.abs().clamp_min(1e-6) ** per_case(drawn.log_gamma.exp())
    noise = torch.randn(images.shape, generator=Generator().manual_seed(drawn.noise_seed)).to(images)
    return bent * per_case(drawn.contrast) + per_case(drawn.brightness) + noise * per_case(drawn.noise)


def apply_bias(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return images (batch, sequence, z, y, x) shaded by each case's field.

    A coil multiplies the signal, and the signal is what lies above a sequence's darkest voxel: z-scores below 0 are
    signal too. All sequences of a case get one field; a real ADC map, a ratio, would have none.
    """
    if not drawn.bias.any():
        return images
    field = log_field(drawn.bias, (images.shape[2], images.shape[3], images.shape[4]), drawn.spacing_mm).exp()
    darkest = images.amin(dim=(2, 3, 4), keepdim=True)
    return darkest + (images - darkest) * field[:, None].to(images)


def log_field(coefficients: Tensor, size: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Tensor:
    """Return the logarithm of the fields of `coefficients` (batch, 9), (batch, *size), with mean 0 in every case.

    A polynomial of degree 2 (low-order polynomials in log space: Van Leemput et al. 1999), in units of half the
    longest edge, so that a field is as steep per mm along every axis.
    """
    half = max(n * mm for n, mm in zip(size, spacing_mm, strict=True)) / 2
    z, y, x = torch.meshgrid(
        *((torch.arange(n) - (n - 1) / 2) * mm / half for n, mm in zip(size, spacing_mm, strict=True)), indexing="ij"
    )
    terms = torch.stack([z, y, x, z * z, y * y, x * x, z * y, z * x, y * x])
    terms = terms - terms.mean(dim=(1, 2, 3), keepdim=True)
    return torch.einsum("bt,tzyx->bzyx", coefficients, terms)
