"""Heads: small modules behind the encoder or decoder. Projection heads may travel; task heads never leave
their site.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def logit(probability: float) -> float:
    """Return log(p / (1 - p)), for p in (0, 1)."""
    return math.log(probability / (1 - probability))


class ProjectionHead(nn.Module):
    """Maps image vectors (batch, vector_size) to projections (batch, size); LayerNorm, since BatchNorm breaks under
    averaging.
    """

    def __init__(self, vector_size: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(vector_size, vector_size), nn.LayerNorm(vector_size), nn.ReLU(), nn.Linear(vector_size, size)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Return projections, not normalised."""
        projections: Tensor = self.layers(vectors)
        return projections


class ClassificationHead(nn.Module):
    """Maps image vectors (batch, vector_size) to one logit per case (batch,)."""

    def __init__(self, vector_size: int, prior: float | None = None) -> None:
        """`prior`: probability that the untrained head should give on average (Lin et al. 2017, section 4.1)."""
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(vector_size), nn.Linear(vector_size, 1))
        if prior is not None:
            nn.init.constant_(self.layers[1].bias, logit(prior))  # type: ignore[arg-type]

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layers(vectors)
        return logits[:, 0]


class OrdinalHead(nn.Module):
    """Maps image vectors (batch, vector_size) to cumulative logits (batch, thresholds), of "the grade reaches k".

    One direction for all thresholds and a bias for each (CORAL: Cao, Mirjalili, Raschka 2020): cases are ranked alike
    by every threshold. The biases start in falling order, at `priors`, the share of cases that reach each threshold;
    nothing but the loss keeps them in order, which they are at its optimum (the paper's theorem).
    """

    def __init__(self, vector_size: int, priors: Sequence[float]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(vector_size), nn.Linear(vector_size, 1, bias=False))
        self.biases = nn.Parameter(torch.tensor([logit(prior) for prior in priors]))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return cumulative logits."""
        logits: Tensor = self.layers(vectors) + self.biases
        return logits


class VoxelHead(nn.Module):
    """Maps full-resolution features to `outputs` values per voxel, (batch, outputs, z, y, x)."""

    def __init__(self, channels: int, outputs: int, prior: float | None = None) -> None:
        """`prior`: probability of a positive voxel that the untrained head should give (Lin et al. 2017,
        section 4.1).
        """
        super().__init__()
        self.layer = nn.Conv3d(channels, outputs, kernel_size=1)
        if prior is not None:
            nn.init.constant_(self.layer.bias, logit(prior))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return values per voxel."""
        values: Tensor = self.layer(features)
        return values
