"""Distances between the surfaces of two masks, in mm; in numpy, since MONAI's versions need scipy.

A surface is the voxels of a mask with one of their 6 neighbours outside it or outside the grid, and each counts the
same, as in MONAI; Nikolov et al. weight surface elements by their area instead.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.components import BoolVolume
from prostafed.common.metrics.overlap import as_masks
from prostafed.common.metrics.statistic import FloatArray


def hausdorff_95(predicted: npt.ArrayLike, true: npt.ArrayLike, spacing_mm: Sequence[float]) -> float | None:
    """Return the larger of the two directed 95th percentiles of surface distances, in mm; None where both are empty.

    Where one is empty: the diagonal of the grid, which no distance exceeds, so that a missed structure is not left out
    of a mean. Masks (z, y, x). Huttenlocher et al. 1993 define the distance and its partial (rank) form.
    """
    a, b = as_masks(predicted, true)
    if not (a.any() or b.any()):
        return None
    if not (a.any() and b.any()):
        return float(np.linalg.norm(np.array(a.shape) * np.array(spacing_mm)))
    return float(max(np.percentile(distances, 95) for distances in surface_distances(a, b, spacing_mm)))


def surface_dice(
    predicted: npt.ArrayLike, true: npt.ArrayLike, spacing_mm: Sequence[float], tolerance_mm: float
) -> float | None:
    """Return the share of both surfaces within `tolerance_mm` of the other, in [0, 1]; None where both are empty.

    Masks (z, y, x). Nikolov et al. 2021, "Clinically applicable segmentation of head and neck anatomy".
    """
    a, b = as_masks(predicted, true)
    if not (a.any() or b.any()):
        return None
    if not (a.any() and b.any()):
        return 0.0
    distances = np.concatenate(surface_distances(a, b, spacing_mm))
    return float(np.mean(distances <= tolerance_mm))


def surface_distances(a: BoolVolume, b: BoolVolume, spacing_mm: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Return the distance in mm of each surface voxel of `a` to the surface of `b`, and of `b` to `a`; neither may be
    empty.
    """
    occupied = np.argwhere(a | b)
    box = tuple(slice(low, high + 1) for low, high in zip(occupied.min(axis=0), occupied.max(axis=0), strict=True))
    surface_a, surface_b = find_surface(a[box]), find_surface(b[box])
    return distance_to(surface_b, spacing_mm)[surface_a], distance_to(surface_a, spacing_mm)[surface_b]


def find_surface(mask: BoolVolume) -> BoolVolume:
    """Return the voxels of `mask` (z, y, x) with a face on something else, or on the edge of the grid."""
    padded = np.pad(mask, 1)
    inner = mask.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis=axis)[1:-1, 1:-1, 1:-1]
    return mask & ~inner


def distance_to(targets: BoolVolume, spacing_mm: Sequence[float]) -> FloatArray:
    """Return each voxel's Euclidean distance in mm to the nearest of `targets` (z, y, x); infinite without any.

    Exact: the least squared distance along one axis, then over those along the next (Saito & Toriwaki 1994).
    """
    squared = np.where(targets, 0.0, np.inf)
    for axis, spacing in enumerate(spacing_mm):
        lines = np.moveaxis(squared, axis, -1)
        position = np.arange(lines.shape[-1]) * spacing
        nearest = [(lines + (position - here) ** 2).min(axis=-1) for here in position]
        squared = np.moveaxis(np.stack(nearest, axis=-1), -1, axis)
    return np.asarray(np.sqrt(squared), dtype=np.float64)
