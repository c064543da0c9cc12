"""Delineations: which label values a mask may hold, whether it lies on the study, and its voxels on the grid."""

from typing import Any

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import MASKS, Masks
from prostafed.common.imaging.resample import Point, covered, crop_to_foreground, resample_labels

ALLOWED_LABELS = {"gland": (0, 1), "zones": (0, 1, 2), "lesion": (0, 1, 2, 3, 4, 5)}  # lesion: 0/1, or ISUP grades

# Resampling the 425 lesions of PI-CAI and 300 of its glands to 3 x 0.5 x 0.5 mm changed volumes by a factor of 0.78 to
# 1.7 and component counts by at most one; only a lesion outside the box changed more.
MAX_VOLUME_RATIO = 2.0
MAX_VOLUME_DIFFERENCE_VOXELS = 12  # of the grid: below it a ratio says nothing


def check_labels(case_id: str, name: str, mask: sitk.Image) -> None:
    """Raise DataError (MASK_LABEL) where `mask` holds other values than ALLOWED_LABELS has for `name`."""
    if name not in ALLOWED_LABELS:
        raise ValueError(f"Unknown mask '{name}'; masks are {MASKS}.")
    values = sitk.GetArrayViewFromImage(mask)
    found = np.unique(values[values != 0])
    if wrong := [value for value in found if value not in ALLOWED_LABELS[name]]:
        raise DataError(
            f"MASK_LABEL case={case_id}: expected {ALLOWED_LABELS[name]} in the {name} mask, found "
            f"{', '.join(map(show_label, wrong[:5]))}; map its labels to these and save it again."
        )


def show_label(value: Any) -> str:
    """Return a label as it is: 2, and not 2 for a float that is all but 2."""
    short = f"{value:g}"
    return short if value == float(short) else str(value)


def check_space(case_id: str, name: str, mask: sitk.Image, reference: sitk.Image) -> None:
    """Raise DataError (MASK_SPACE) where `mask` lies elsewhere than `reference`: of another patient or frame."""
    part = crop_to_foreground(mask)
    if part is None:  # an empty mask has no place but that of its grid
        share = float(covered(mask, reference).any())
    else:
        share = float(covered(part, reference)[sitk.GetArrayViewFromImage(part) != 0].mean())
    if share < 0.5:
        raise DataError(
            f"MASK_SPACE case={case_id}: expected the {name} mask to lie on the study's images, found {share:.0%} of "
            "it there; check that it belongs to this patient and study and was not saved without its position."
        )


def center_of_mass(mask: sitk.Image) -> Point | None:
    """Return the centre of mass of the non-zero voxels (x, y, z) in mm, LPS; None where there are none."""
    part = crop_to_foreground(mask)
    if part is None:
        return None
    z, y, x = np.argwhere(sitk.GetArrayViewFromImage(part)).mean(axis=0).tolist()
    center: Point = part.TransformContinuousIndexToPhysicalPoint((x, y, z))
    return center


def prepare_mask(case_id: str, name: str, mask: sitk.Image, box: sitk.Image) -> Masks:
    """Return `mask` on `box`, (z, y, x) uint8; a lesion of any grade becomes 1.

    Raises DataError (MASK_SPACE) where resampling, or the edge of the box, has made another mask of it: volume more
    than halved or doubled, or components gained or lost.
    """
    part = crop_to_foreground(mask)
    if part is None:
        return np.zeros(box.GetSize()[::-1], dtype=np.uint8)
    if name == "lesion":
        part = part > 0
    labels = resample_labels(part, box)
    voxel_mm3 = float(np.prod(box.GetSpacing()))
    before_mm3 = np.count_nonzero(sitk.GetArrayViewFromImage(part)) * float(np.prod(part.GetSpacing()))
    after_mm3 = np.count_nonzero(labels) * voxel_mm3
    low, high = sorted((before_mm3, after_mm3))
    of_another_size = high > MAX_VOLUME_RATIO * low and high - low > MAX_VOLUME_DIFFERENCE_VOXELS * voxel_mm3
    before, after = _count_components(part), _count_components(sitk.GetImageFromArray(labels))
    if after == 0 or of_another_size or abs(after - before) > max(1, before // 2):
        raise DataError(
            f"MASK_SPACE case={case_id}: expected the {name} mask to stay the same on the grid of the study, found "
            f"{before_mm3:.0f} mm3 in {before} parts before and {after_mm3:.0f} mm3 in {after} parts after; check that "
            "it belongs to this study and is not cut by the box, or choose a finer or larger grid."
        )
    return labels


def _count_components(mask: sitk.Image) -> int:
    parts = sitk.ConnectedComponent(mask != 0, True)  # voxels that share a corner are of one part
    return int(sitk.GetArrayViewFromImage(parts).max())
