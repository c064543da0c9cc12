"""From candidates to what a radiologist is shown: a point and a box per candidate, where masks are too much."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prostafed.common.metrics.candidates import Candidates, Map

Voxel = tuple[int, int, int]  # (z, y, x)


@dataclass(frozen=True)
class Location:
    """Where a candidate lies, in voxels (z, y, x) of its map."""

    confidence: float
    point: Voxel  # a voxel of the candidate
    first: Voxel  # of the smallest box around it
    last: Voxel  # the box holds it too


def locate_candidates(candidates: Candidates, detection_map: Map, spacing_mm: Sequence[float]) -> list[Location]:
    """Return the place of each candidate of `detection_map` (z, y, x), most confident first.

    The point is the candidate's voxel nearest, in mm, to its centre of mass weighted by probability: it lies inside
    also where the candidate is bent around something. Of voxels equally near, the first in (z, y, x) order.
    """
    locations = []
    for number, confidence in enumerate(candidates.confidences, start=1):
        voxels = np.argwhere(candidates.labels == number)
        center = np.average(voxels, axis=0, weights=detection_map[tuple(voxels.T)])
        nearest = np.argmin((((voxels - center) * np.array(spacing_mm)) ** 2).sum(axis=1))
        corners = (voxels[nearest], voxels.min(axis=0), voxels.max(axis=0))
        locations.append(Location(confidence, *((int(z), int(y), int(x)) for z, y, x in corners)))
    return locations
