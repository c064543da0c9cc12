"""Resampling between axis-aligned grids, and smooth random fields; all separable, one matrix per axis."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Axes = tuple[FloatArray, FloatArray, FloatArray]  # positions in mm along (z, y, x), each ascending and regular


def make_axis(size: int, spacing_mm: float, center_mm: float = 0.0) -> FloatArray:
    """Return `size` positions, `spacing_mm` apart, whose middle is `center_mm`."""
    return ((np.arange(size) - (size - 1) / 2) * spacing_mm + center_mm).astype(np.float32)


def make_axes(size: Sequence[int], spacing_mm: Sequence[float], center_mm: Sequence[float]) -> Axes:
    """Return the axes of a grid around `center_mm`; all are (z, y, x)."""
    z, y, x = (make_axis(*each) for each in zip(size, spacing_mm, center_mm, strict=True))
    return z, y, x


def covering_axis(target: FloatArray, spacing_mm: float, margin_mm: float, phase: float) -> FloatArray:
    """Return positions `spacing_mm` apart, from `margin_mm` before `target` to after it, shifted by `phase` (0-1)."""
    low, high = float(target[0]) - margin_mm, float(target[-1]) + margin_mm
    return (low + (np.arange(int(np.ceil((high - low) / spacing_mm)) + 1) - phase) * spacing_mm).astype(np.float32)


def resample(volume: FloatArray, source: Axes, target: Axes) -> FloatArray:
    """Return `volume` (z, y, x) at `target`: linear interpolation, or its average where the target is the coarser grid.

    Beyond the source its edge value is repeated.
    """
    return _apply(volume, [_hat_weights(s, t) for s, t in zip(source, target, strict=True)])


@dataclass(frozen=True)
class Field:
    """A smooth random field of mean 0 and standard deviation about 1, known at every position."""

    values: FloatArray
    axes: Axes

    def sample(self, axes: Axes) -> FloatArray:
        """Return the field (z, y, x) at `axes`; 0 far outside its own grid."""
        return _apply(self.values, [_spline_weights(s, t) for s, t in zip(self.axes, axes, strict=True)])


def draw_field(
    rng: np.random.Generator, half_extent_mm: tuple[float, float, float], scale_mm: tuple[float, float, float]
) -> Field:
    """Return a field around the origin whose structures are about `scale_mm` wide, (z, y, x)."""
    axes = [
        make_axis(2 * int(np.ceil(half / scale)) + 3, scale)
        for half, scale in zip(half_extent_mm, scale_mm, strict=True)
    ]
    values = rng.standard_normal([axis.size for axis in axes], dtype=np.float32)
    # A cubic B-spline of unit spacing averages its neighbours: their squared weights sum to 0.479 on average, per axis.
    return Field(values / np.float32(0.479**1.5), (axes[0], axes[1], axes[2]))


def _apply(volume: FloatArray, matrices: list[FloatArray]) -> FloatArray:
    along_z, along_y, along_x = matrices
    size_z, size_y, size_x = volume.shape
    volume = (along_z @ volume.reshape(size_z, -1)).reshape(-1, size_y, size_x)
    return np.asarray(np.matmul(np.matmul(along_y, volume), along_x.T), dtype=np.float32)


def _steps_between(source: FloatArray, target: FloatArray) -> FloatArray:
    """Distances from each target to each source position, in steps of the source, (target, source)."""
    step = source[1] - source[0] if source.size > 1 else np.float32(1)
    return np.asarray((target[:, None] - source[None, :]) / step, dtype=np.float32)


def _hat_weights(source: FloatArray, target: FloatArray) -> FloatArray:
    """Linear interpolation, averaged over points spread across the target voxel where that is the larger."""
    points = 1
    if source.size > 1 and target.size > 1:
        points = max(1, int(np.ceil((target[1] - target[0]) / (source[1] - source[0]) - 1e-3)))
    within = (np.arange(points) - (points - 1) / 2) / points * (target[1] - target[0] if target.size > 1 else 0)
    inside = np.clip(target[:, None] + within, source[0], source[-1]).astype(np.float32)
    weights = np.maximum(1 - np.abs(_steps_between(source, inside.ravel())), 0)
    return np.asarray(weights.reshape(target.size, points, source.size).mean(axis=1), dtype=np.float32)


def _spline_weights(source: FloatArray, target: FloatArray) -> FloatArray:
    distance = np.abs(_steps_between(source, target))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.maximum(2 - distance, 0) ** 3 / 6
    return np.asarray(np.where(distance < 1, near, far), dtype=np.float32)
