"""The delineations of a generated case."""

import numpy as np
import numpy.typing as npt

from prostafed.simulations.phantom.anatomy import Anatomy
from prostafed.simulations.phantom.shapes import Points

Mask = npt.NDArray[np.uint8]


def make_masks(anatomy: Anatomy, points: Points) -> tuple[Mask, Mask, Mask]:
    """Return (gland 0/1, zones 0/1 = PZ/2 = TZ, csPCa lesions 0 or their ISUP 2-5), each (z, y, x).

    A voxel belongs where its centre lies. Where csPCa lesions overlap the higher grade counts; one that slips between
    all centres keeps its nearest voxel.
    """
    gland, zones, grades = (np.zeros(points.shape, dtype=np.uint8) for _ in range(3))
    region, local = points.around((0.0, 0.0, 0.0), anatomy.gland.reach)
    if min(local.shape) == 0:
        return gland, zones, grades
    depth, tz_depth = anatomy.gland.depths(local)
    gland[region] = depth > 0
    zones[region] = np.where(depth > 0, np.where(tz_depth > 0, 2, 1), 0)
    for lesion in sorted(anatomy.lesions, key=lambda lesion: lesion.isup):
        # A voxel more than the lesion's own box, for the nearest voxel of a lesion smaller than a voxel.
        more = max(float(axis[1] - axis[0]) if axis.size > 1 else 0.0 for axis in points.axes)
        region, local = points.around(lesion.part.shape.center, lesion.part.reach(more))
        if lesion.isup < 2 or min(local.shape) == 0 or not gland[region].any():
            continue
        inside = np.where(gland[region] > 0, anatomy.depth_of(lesion.part, local), -np.inf)
        grades[region][inside > min(0.0, float(inside.max()) - 1e-4)] = lesion.isup
    return gland, zones, grades
