"""What augmentation draws, on the CPU, for a whole batch."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

MAX_ROTATION_RAD = 0.26  # 15 degrees, in the axial plane: patients lie straight, readers still see tilted ones
MAX_SHIFT_MM = 6.0
MAX_SCALING = 0.12
CONTROL_POINTS = (5, 7, 7)  # of the elastic grid (z, y, x): 2 x 4 x 4 cells, so about 30 x 24 x 24 mm for 60 x 96 x 96
MAX_ELASTIC_MM = 8.0  # of a control point; a third of a cell, so that tissue does not fold
MAX_LOG_GAMMA = 0.35
MAX_CONTRAST = 0.25
MAX_BRIGHTNESS = 0.25
MAX_NOISE = 0.15
BIAS_TERMS = 9  # polynomials of degree 1 and 2 in three coordinates
MAX_BIAS = 0.3  # of a coefficient in log space: exp(0.3) = 1.35 times as bright at the end of the longest edge
MAX_BLUR_MM = 1.2  # standard deviation; 2.8 mm at half maximum, a coarse matrix
MIN_KEPT_FREQUENCY = 0.55  # of the highest one along an axis: an acquisition matrix of 140 shown on 256
CUTOUT_MM = (8.0, 24.0)  # shortest and longest edge: from a small lesion to half a gland


@dataclass(frozen=True)
class Preset:
    """How often a case gets each of the stronger transformations; the others are drawn for every case."""

    elastic_rate: float
    bias_rate: float
    blur_rate: float
    gibbs_rate: float
    cutout_rate: float


# Cutout would hide a lesion whose contour the loss still asks for. Contrastive learning lives on strong views.
SUPERVISED = Preset(elastic_rate=0.2, bias_rate=0.2, blur_rate=0.2, gibbs_rate=0.1, cutout_rate=0.0)
CONTRASTIVE = Preset(elastic_rate=0.5, bias_rate=0.5, blur_rate=0.5, gibbs_rate=0.3, cutout_rate=0.5)


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for a batch; every tensor lies on the CPU and starts with the batch axis."""

    angle_rad: Tensor  # (batch,)
    scaling: Tensor  # (batch,), 1 = none
    shift_mm: Tensor  # (batch, 3), (z, y, x)
    flip: Tensor  # (batch,) bool, left-right
    elastic_mm: Tensor  # (batch, 3, *CONTROL_POINTS), displacements (z, y, x) of the control points
    log_gamma: Tensor  # (batch, 1)
    contrast: Tensor  # (batch, 1), 1 = none
    brightness: Tensor  # (batch, 1)
    bias: Tensor  # (batch, BIAS_TERMS), coefficients in log space
    blur_mm: Tensor  # (batch,) standard deviation
    kept_frequency: Tensor  # (batch,) fraction of k-space kept along y and x, 1 = all
    noise: Tensor  # (batch,) standard deviation
    noise_seed: int
    cutout_mm: Tensor  # (batch, 3) edges (z, y, x), 0 = none
    cutout_at: Tensor  # (batch, 3) in [0, 1]: from the box at the first voxel to the box at the last
    spacing_mm: tuple[float, float, float]


def draw_augmentation(
    batch: int, spacing_mm: tuple[float, float, float], generator: Generator, preset: Preset = SUPERVISED
) -> Augmentation:
    """Return one draw per case, uniform within the constants above; `preset` says how often what is optional comes.

    What moves along z moves half as far there: slices are few and thick.
    """

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def around(limit: float, *shape: int) -> Tensor:
        return between(-limit, limit, *shape)

    def now_and_then(rate: float, *shape: int) -> Tensor:
        return (torch.rand(batch, *shape, generator=generator) < rate).float()

    less_along_z = torch.tensor([0.5, 1.0, 1.0])
    return Augmentation(
        angle_rad=around(MAX_ROTATION_RAD),
        scaling=1 + around(MAX_SCALING),
        shift_mm=around(MAX_SHIFT_MM, 3) * less_along_z,
        flip=torch.rand(batch, generator=generator) < 0.5,
        elastic_mm=around(MAX_ELASTIC_MM, 3, *CONTROL_POINTS)
        * less_along_z.view(3, 1, 1, 1)
        * now_and_then(preset.elastic_rate, 1, 1, 1, 1),
        log_gamma=around(MAX_LOG_GAMMA, 1),
        contrast=1 + around(MAX_CONTRAST, 1),
        brightness=around(MAX_BRIGHTNESS, 1),
        bias=around(MAX_BIAS, BIAS_TERMS) * now_and_then(preset.bias_rate, 1),
        blur_mm=between(0, MAX_BLUR_MM) * now_and_then(preset.blur_rate),
        kept_frequency=1 - between(0, 1 - MIN_KEPT_FREQUENCY) * now_and_then(preset.gibbs_rate),
        noise=between(0, MAX_NOISE),
        noise_seed=int(torch.randint(2**62, (1,), generator=generator)),
        cutout_mm=between(*CUTOUT_MM, 3) * now_and_then(preset.cutout_rate, 1),
        cutout_at=between(0, 1, 3),
        spacing_mm=spacing_mm,
    )
