"""From anatomy to maps: what each voxel of a grid would give, before any scanner effect; and the masks."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from prostafed.simulations.phantom.anatomy import Anatomy
from prostafed.simulations.phantom.fields import FloatArray
from prostafed.simulations.phantom.shapes import Ellipsoid, Points, Triple, ramp
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
    tissues = anatomy.tissues
    maps = np.empty((len(texture_gains), *points.shape), dtype=np.float32)
    coarse = anatomy.coarse.sample(points.axes)
    strands = np.maximum(1 - np.abs(coarse) * np.float32(1.6), 0) * _STRANDS
    for channel, value in zip(maps, channels(tissues["fat"]), strict=True):
        np.multiply(1 - strands, np.float32(value), out=channel)
    for part in anatomy.surroundings:
        _paint_part(maps, points, part, anatomy, channels, width_mm)
    for channel, gain in zip(maps, texture_gains, strict=True):
        channel *= 1 + coarse * (_COARSE_TEXTURE * np.float32(gain))
    if abs(points.axes[1][0] - 18) > 90 or abs(points.axes[1][-1] - 18) > 90 or abs(points.axes[2]).max() > 130:
        maps *= ramp(_BODY.depth(points), width_mm)
    _paint_gland(maps, anatomy, points, channels, texture_gains, width_mm)
    return maps


def make_masks(anatomy: Anatomy, points: Points) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return (gland 0/1, zones 0/1 = PZ/2 = TZ, csPCa lesions 0 or their ISUP 2-5), each (z, y, x) at the voxel centres."""
    gland, zones, grades = (np.zeros(points.shape, dtype=np.uint8) for _ in range(3))
    region, local = points.around((0.0, 0.0, 0.0), anatomy.gland.reach)
    if min(local.shape) == 0:
        return gland, zones, grades
    depth, tz_depth = anatomy.gland.depths(local)
    gland[region] = depth > 0
    zones[region] = np.where(depth > 0, np.where(tz_depth > 0, 2, 1), 0)
    for lesion in sorted((lesion for lesion in anatomy.lesions if lesion.isup >= 2), key=lambda lesion: lesion.isup):
        region, local = points.around(lesion.part.shape.center, _grown(lesion.part))
        inside = (_depth(lesion.part, local, anatomy) > 0) & (gland[region] > 0)
        grades[region][inside] = lesion.isup
    return gland, zones, grades


def _paint_part(
    maps: FloatArray, points: Points, part: Part, anatomy: Anatomy, channels: Channels, width_mm: float
) -> None:
    reach = _grown(part, width_mm)
    region, local = points.around(part.shape.center, reach)
    if min(local.shape) == 0:
        return
    depth = _depth(part, local, anatomy)
    block = maps[(slice(None), *region)]
    inside, weight = ramp(depth, width_mm), np.float32(part.weight)
    if part.hollow:
        inside = ramp(depth + np.float32(part.rim_mm), width_mm) - inside
    elif part.rim is not None:
        _blend(block, ramp(depth + np.float32(part.rim_mm), width_mm) * weight, channels(part.rim))
    _blend(block, inside * weight, channels(part.tissue))


def _paint_gland(
    maps: FloatArray, anatomy: Anatomy, points: Points, channels: Channels, gains: tuple[float, ...], width_mm: float
) -> None:
    region, local = points.around((0.0, 0.0, 0.0), anatomy.gland.reach)
    if min(local.shape) == 0:
        return
    depth, tz_depth = anatomy.gland.depths(local)
    in_tz = ramp(tz_depth, width_mm)
    zones = {"gland": None, "TZ": in_tz, "PZ": 1 - in_tz}
    fine = anatomy.fine.sample(local.axes)
    texture = fine * (_PZ_TEXTURE + (_TZ_TEXTURE - _PZ_TEXTURE) * in_tz)
    inner = np.empty((len(gains), *local.shape), dtype=np.float32)
    pz, tz, capsule = (channels(anatomy.tissues[name]) for name in ("pz", "tz", "capsule"))
    for channel, of_pz, of_tz in zip(inner, pz, tz, strict=True):
        np.add(np.float32(of_pz), in_tz * np.float32(of_tz - of_pz), out=channel)
    for part in anatomy.inside:
        _paint_inside(inner, local, part, zones[part.zone or "gland"], anatomy, channels, width_mm)
    _blend(inner, np.maximum(1 - np.abs(tz_depth) / np.float32(0.9 + width_mm / 2), 0) * np.float32(0.55), capsule)
    for lesion in anatomy.lesions:
        _paint_inside(inner, local, lesion.part, None, anatomy, channels, width_mm)
    for channel, gain in zip(inner, gains, strict=True):
        channel *= 1 + texture * np.float32(gain)
    inside = ramp(depth, width_mm)
    for channel, outer, of_capsule in zip(inner, maps[(slice(None), *region)], capsule, strict=True):
        outer += inside * (channel - outer)
        edge = np.maximum(1 - np.abs(depth) / np.float32(0.7 + width_mm / 2), 0) * np.float32(0.5)
        outer += edge * (np.float32(of_capsule) - outer)


def _paint_inside(
    inner: FloatArray,
    points: Points,
    part: Part,
    clip: FloatArray | None,
    anatomy: Anatomy,
    channels: Channels,
    width_mm: float,
) -> None:
    region, local = points.around(part.shape.center, _grown(part, width_mm))
    if min(local.shape) == 0:
        return
    depth = _depth(part, local, anatomy)
    block = inner[(slice(None), *region)]
    within = np.float32(part.weight) if clip is None else clip[region] * np.float32(part.weight)
    if part.rim is not None:
        _blend(block, ramp(depth + np.float32(part.rim_mm), width_mm) * within, channels(part.rim))
    _blend(block, ramp(depth, width_mm) * within, channels(part.tissue))


def _depth(part: Part, points: Points, anatomy: Anatomy) -> FloatArray:
    depth = part.shape.depth(points)
    return depth + anatomy.coarse.sample(points.axes) * np.float32(part.roughness_mm) if part.roughness_mm else depth


def _grown(part: Part, width_mm: float = 0.0) -> Triple:
    more = part.rim_mm + width_mm + 2.5 * part.roughness_mm
    thin = min(part.shape.semi_axes)
    z, y, x = (reach * (1 + more / thin) for reach in part.shape.reach)  # a depth of `more` mm is more than that on long axes
    return z, y, x


def _blend(block: FloatArray, weight: FloatArray, values: tuple[float, ...]) -> None:
    for channel, value in zip(block, values, strict=True):
        channel += weight * (np.float32(value) - channel)
