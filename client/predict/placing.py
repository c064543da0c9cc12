"""Back from the grid of the model to the voxels of the T2W series the radiologist looks at."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.resample import (
    Point,
    as_image,
    covered,
    lay_box,
    resample,
    resample_labels,
    settle_center,
)
from prostafed.common.metrics.candidates import Candidates
from prostafed.common.metrics.localise import Location, locate_candidates
from prostafed.common.tasks.answer import CANDIDATE, Answer, FloatVolume, Labels, Quantity, Segment


@dataclass(frozen=True)
class Region:
    """A segment in the T2W: where it lies and how large it is."""

    number: int  # from 1; its label
    segment: Segment
    volume_ml: float
    location: Location  # in voxels (z, y, x) of the T2W
    point_mm: Point  # LPS

    @property
    def is_candidate(self) -> bool:
        """Return whether it is a lesion candidate, not a structure."""
        return self.segment.kind == CANDIDATE


@dataclass(frozen=True)
class Placed:
    """An answer in the voxels of the T2W (z, y, x)."""

    score: float | None
    quantities: tuple[Quantity, ...]
    heat: FloatVolume | None
    labels: Labels | None  # None where there is no segment
    regions: tuple[Region, ...]


def lay_grid(t2w: sitk.Image, grid: Grid) -> sitk.Image:
    """Return the box a case without a gland mask was resampled to; see `geometry.prepare_case`."""
    return lay_box(t2w, grid, settle_center(None, t2w, grid))


def place_answer(answer: Answer, box: sitk.Image, t2w: sitk.Image) -> Placed:
    """Return `answer`, on `box`, in the voxels of `t2w`.

    Heat is interpolated linearly and 0 outside the box. Labels are interpolated linearly each, at 0.5 (nearest would
    leave stairs); a segment too small for the voxels of the T2W keeps the voxel at its middle.
    """
    heat = None
    if answer.heat is not None:
        image = as_image(answer.heat, box)
        heat = np.where(covered(t2w, image), np.clip(resample(image, t2w, spline=False), 0, 1), 0).astype(np.float32)
    labels, regions = None, tuple[Region, ...]()
    if answer.labels is not None and answer.labels.any():
        labels = resample_labels(as_image(answer.labels, box), t2w)
        _keep_small(labels, answer, box, t2w)
        regions = _describe(labels, answer, heat, t2w)
    return Placed(answer.score, answer.quantities, heat, labels, regions)


def _keep_small(labels: Labels, answer: Answer, box: sitk.Image, t2w: sitk.Image) -> None:
    assert answer.labels is not None
    for number in np.setdiff1d(answer.labels, labels).tolist():
        z, y, x = np.argwhere(answer.labels == number).mean(axis=0).tolist()
        index = t2w.TransformPhysicalPointToIndex(box.TransformContinuousIndexToPhysicalPoint((x, y, z)))
        if all(0 <= place < size for place, size in zip(index, t2w.GetSize(), strict=True)):
            labels[index[::-1]] = number


def _describe(labels: Labels, answer: Answer, heat: FloatVolume | None, t2w: sitk.Image) -> tuple[Region, ...]:
    spacing_mm = t2w.GetSpacing()[::-1]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    regions = []
    for number, segment in enumerate(answer.segments, start=1):
        inside = labels == number
        if not inside.any():  # outside the T2W altogether
            continue
        weights = np.maximum(heat, np.float32(1e-6)) if heat is not None else inside.astype(np.float32)
        alone = Candidates(inside.astype(np.int32), (segment.confidence or 0.0,))
        (location,) = locate_candidates(alone, weights, spacing_mm)
        point_mm: Point = t2w.TransformIndexToPhysicalPoint(location.point[::-1])
        volume_ml = int(np.count_nonzero(inside)) * voxel_ml
        regions.append(Region(number, segment, volume_ml, location, point_mm))
    return tuple(regions)
