"""Intensities of a case: gamma, contrast, brightness and noise."""

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
