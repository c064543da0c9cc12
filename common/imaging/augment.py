"""Augmentation in two halves: draw the parameters of a whole batch on the CPU, then apply them wherever the batch lies.

What is drawn does not depend on the device, so a run on a GPU sees the views a run on a CPU sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

MAX_ROTATION_RAD = 0.26  # 15 degrees, in the axial plane: patients lie straight, readers still see tilted ones
MAX_SHIFT_MM = 6.0
MAX_SCALING = 0.12
MAX_LOG_GAMMA = 0.35
MAX_CONTRAST = 0.25
MAX_BRIGHTNESS = 0.25
MAX_NOISE = 0.15
HIDDEN_RATE = 0.25


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for a batch; every tensor starts with the batch axis."""

    angle_rad: Tensor  # (batch,)
    scaling: Tensor  # (batch,)
    shift_mm: Tensor  # (batch, 3), (z, y, x)
    flip: Tensor  # (batch,) bool, left-right
    log_gamma: Tensor  # (batch, 1)
    contrast: Tensor  # (batch, 1)
    brightness: Tensor  # (batch, 1)
    noise: Tensor  # (batch,) standard deviation
    noise_seed: int
    spacing_mm: tuple[float, float, float]


def draw_augmentation(batch: int, spacing_mm: tuple[float, float, float], generator: Generator) -> Augmentation:
    """Return one draw per case: in-plane rotation, scaling, shift, left-right flip, gamma, contrast, brightness and
    noise.
    """

    def uniform(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(batch, *shape, generator=generator) - 1) * limit

    return Augmentation(
        angle_rad=uniform(MAX_ROTATION_RAD),
        scaling=1 + uniform(MAX_SCALING),
        shift_mm=uniform(MAX_SHIFT_MM, 3) * torch.tensor([0.5, 1.0, 1.0]),
        flip=torch.rand(batch, generator=generator) < 0.5,
        log_gamma=uniform(MAX_LOG_GAMMA, 1),
        contrast=1 + uniform(MAX_CONTRAST, 1),
        brightness=uniform(MAX_BRIGHTNESS, 1),
        noise=torch.rand(batch, generator=generator) * MAX_NOISE,
        noise_seed=int(torch.randint(2**62, (1,), generator=generator)),
        spacing_mm=spacing_mm,
    )


def apply_augmentation(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return augmented images (batch, sequence, z, y, x); a missing sequence stays zeros."""
    present = find_present(images)[:, :, None, None, None]
    return apply_intensity(apply_geometry(images, drawn), drawn) * present


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


def apply_geometry(volumes: Tensor, drawn: Augmentation, mode: str = "bilinear") -> Tensor:
    """Return moved volumes (batch, channel, z, y, x); `mode` "nearest" for masks. What enters from outside repeats the
    border.
    """
    extent_mm = torch.tensor([n * mm for n, mm in zip(volumes.shape[2:], drawn.spacing_mm, strict=True)])
    _, height, width = extent_mm.tolist()
    cosine, sine = torch.cos(drawn.angle_rad) / drawn.scaling, torch.sin(drawn.angle_rad) / drawn.scaling
    mirror = torch.where(drawn.flip, -1.0, 1.0)
    theta = torch.zeros(volumes.shape[0], 3, 4)  # rows and columns (x, y, z), in units of half the extent
    theta[:, 0, 0], theta[:, 0, 1] = cosine * mirror, -sine * height / width * mirror
    theta[:, 1, 0], theta[:, 1, 1] = sine * width / height, cosine
    theta[:, 2, 2] = 1 / drawn.scaling
    theta[:, :, 3] = (2 * drawn.shift_mm / extent_mm).flip(1)
    grid = affine_grid(theta.to(volumes), list(volumes.shape), align_corners=False)
    return grid_sample(volumes, grid, mode=mode, padding_mode="border", align_corners=False)


def apply_intensity(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return images with each case's gamma (on the magnitude of the z-score), contrast, brightness and noise."""

    def per_case(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1, 1).to(images)

    bent = images.sign() * images.abs().clamp_min(1e-6) ** per_case(drawn.log_gamma.exp())
    noise = torch.randn(images.shape, generator=Generator().manual_seed(drawn.noise_seed)).to(images)
    return bent * per_case(drawn.contrast) + per_case(drawn.brightness) + noise * per_case(drawn.noise)
