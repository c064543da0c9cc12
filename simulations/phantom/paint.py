"""From anatomy to maps: what each voxel of a grid would give, before any scanner effect."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.simulations.phantom.anatomy import Anatomy
from prostafed.simulations.phantom.fields import FloatArray
from prostafed.simulations.phantom.shapes import Ellipsoid, Points, ramp
from prostafed.simulations.phantom.surroundings import Part
from prostafed.simulations.phantom.tissue import Tissue

Channels = Callable[[Tissue], tuple[float, ...]]

_BODY = Ellipsoid((0.0, 18.0, 0.0), (1e5, 112.0, 185.0))
_PZ_TEXTURE, _TZ_TEXTURE, _COARSE_TEXTURE = np.float32(0.14), np.float32(0.15), np.float32(0.06)
_STRANDS = np.float32(0.22)  # of fat: dark where the coarse texture crosses 0


def paint(
    anatomy: Anatomy, points: Points, channels: Channels, texture_gains: tuple[float, ...], width_mm: float
) -> FloatArray:
    """Return maps (channel, z, y, x) of what `channels` says of each tissue, mixed where tissues share a voxel.

    `texture_gains`: how strongly each channel shows the tissues' texture; `width_mm`: of the ramp at tissue borders,
    about a voxel.
    """
    brush = _Brush(anatomy, channels, width_mm)
    gains = _as_column(texture_gains)
    coarse = anatomy.coarse.sample(points.axes)
    strands = np.maximum(1 - np.abs(coarse) * np.float32(1.6), 0) * _STRANDS
    maps = (1 - strands) * brush.values(anatomy.tissues["fat"])
    for part in anatomy.surroundings:
        brush.paint(maps, points, part)
    maps *= 1 + coarse * (_COARSE_TEXTURE * gains)
    if max(abs(points.axes[1][[0, -1]] - _BODY.center[1])) > 90 or abs(points.axes[2]).max() > 130:
        maps *= ramp(_BODY.depth(points), width_mm)
    region, local = points.around((0.0, 0.0, 0.0), anatomy.gland.reach)
    if min(local.shape) > 0:
        _paint_gland(maps[(slice(None), *region)], brush, local, gains)
    return maps


@dataclass(frozen=True)
class _Brush:
    anatomy: Anatomy
    channels: Channels
    width_mm: float

    def values(self, tissue: Tissue) -> FloatArray:
        """The tissue's value per channel, (channel, 1, 1, 1)."""
        return _as_column(self.channels(tissue))

    def cover(self, block: FloatArray, weight: FloatArray, tissue: Tissue) -> None:
        """Replace `weight` (0-1) of what `block` shows by the tissue."""
        block += weight * (self.values(tissue) - block)

    def paint(self, maps: FloatArray, points: Points, part: Part, clip: FloatArray | None = None) -> None:
        """Paint the part over `maps`, only where `clip` (0-1) lets it."""
        region, local = points.around(part.shape.center, part.reach(self.width_mm))
        if min(local.shape) == 0:
            return
        depth = self.anatomy.depth_of(part, local)
        block = maps[(slice(None), *region)]
        weight = np.float32(part.weight) if clip is None else clip[region] * np.float32(part.weight)
        inside = ramp(depth, self.width_mm)
        with_rim = ramp(depth + np.float32(part.rim_mm), self.width_mm) if part.rim_mm else inside
        if part.hollow:
            inside = with_rim - inside
        elif part.rim is not None:
            self.cover(block, with_rim * weight, part.rim)
        self.cover(block, inside * weight, part.tissue)

    def line(self, depth: FloatArray, half_width_mm: float) -> FloatArray:
        """Weights (0-1) of a thin line along a surface."""
        return np.maximum(1 - np.abs(depth) / np.float32(half_width_mm + self.width_mm / 2), 0)


def _paint_gland(outer: FloatArray, brush: _Brush, points: Points, gains: FloatArray) -> None:
    anatomy, tissues = brush.anatomy, brush.anatomy.tissues
    depth, tz_depth = anatomy.gland.depths(points)
    in_tz = ramp(tz_depth, brush.width_mm)
    texture = anatomy.fine.sample(points.axes) * (_PZ_TEXTURE + (_TZ_TEXTURE - _PZ_TEXTURE) * in_tz)
    pz, tz = brush.values(tissues["pz"]), brush.values(tissues["tz"])
    inner = pz + in_tz * (tz - pz)
    for part in anatomy.inside:
        brush.paint(inner, points, part, in_tz if part.zone == "TZ" else None)
    brush.cover(inner, brush.line(tz_depth, 0.9) * np.float32(0.55), tissues["capsule"])
    for lesion in anatomy.lesions:
        brush.paint(inner, points, lesion.part)
    inner *= 1 + texture * gains
    outer += ramp(depth, brush.width_mm) * (inner - outer)
    brush.cover(outer, brush.line(depth, 0.7) * np.float32(0.5), tissues["capsule"])


def _as_column(values: npt.ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float32)[:, None, None, None]
