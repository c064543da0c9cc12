"""Heads: small modules behind the encoder or decoder. Projection heads may travel; task heads never leave
their site.
"""

import math

from torch import Tensor, nn


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

    def __init__(self, vector_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(vector_size), nn.Linear(vector_size, 1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.layers(vectors)
        return logits[:, 0]


class VoxelHead(nn.Module):
    """Maps full-resolution features to `outputs` values per voxel, (batch, outputs, z, y, x)."""

    def __init__(self, channels: int, outputs: int, prior: float | None = None) -> None:
        """`prior`: probability of a positive voxel that the untrained head should give (Lin et al. 2017,
        section 4.1).
        """
        super().__init__()
        self.layer = nn.Conv3d(channels, outputs, kernel_size=1)
        if prior is not None:
            nn.init.constant_(self.layer.bias, math.log(prior / (1 - prior)))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return values per voxel."""
        values: Tensor = self.layer(features)
        return values
