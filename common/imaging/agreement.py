"""Whether the masks of one study belong together: each may lie on its images and still be mirrored, or of another day.

Measured on the 1,500 glands of PI-CAI (an AI's), its 425 lesions (drawn by radiologists, most on the ADC, which is
distorted), 62 of its zones, and Prostate158:
- zones and gland: at least 71 % of each lies in the other;
- lesions: of 23 of 425 more than half lies outside the gland, but 83 % and more within 10 mm of it; of the one other
  nothing does: its gland lies 59 mm off.
So masks of which half is far off are refused, and a lesion outside the gland is a reason for a look.
"""

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.resample import crop_to_foreground

MIN_SHARE = 0.5
FAR_MM = 10.0
ZONES = {1: "peripheral", 2: "transition"}  # by label


def check_agreement(case_id: str, masks: Mapping[str, sitk.Image]) -> None:
    """Raise DataError (MASK_SPACE) where gland and zones are not of one prostate, or a lesion is far from both.

    `masks` may lie on any grids of one patient space; those that are missing or empty say nothing, and zones of which
    one was not drawn say nothing of what lies outside them.
    """
    for inner, outer in (("zones", "gland"), ("gland", "zones")):
        share = _share_within(masks, inner, outer, 0.0)
        if share < MIN_SHARE:
            raise _refuse(case_id, f"most of the {inner} mask in the {outer} mask, found {share:.0%} of it there")
    organ = _name_organ(masks)
    share = _share_within(masks, "lesion", organ, FAR_MM)
    if share < MIN_SHARE:
        raise _refuse(
            case_id,
            f"most of the lesion mask within {FAR_MM:.0f} mm of the {organ} mask, found {share:.0%} of it there",
        )


def doubt_lesion(masks: Mapping[str, sitk.Image]) -> str | None:
    """Return a sentence on a lesion most of which lies outside the gland mask, or without one the zones; or None."""
    organ = _name_organ(masks)
    share = _share_within(masks, "lesion", organ, 0.0)
    if share >= MIN_SHARE:
        return None
    return (
        f"expected most of the lesion mask in the {organ} mask of the same study, found {share:.0%} of it there; "
        "look at both on the T2W: one of them may be mirrored, turned, or drawn on another image."
    )


def list_missing_zones(zones: sitk.Image) -> list[str]:
    """Return the names of the zones of which a mask has no voxel."""
    drawn = sitk.GetArrayViewFromImage(zones)
    return [name for label, name in ZONES.items() if not (drawn == label).any()]


def _name_organ(masks: Mapping[str, sitk.Image]) -> str:
    return "gland" if "gland" in masks else "zones"  # zones leave out the anterior stroma, in which lesions grow


def _share_within(masks: Mapping[str, sitk.Image], inner: str, outer: str, margin_mm: float) -> float:
    """Return which share of the mask `inner` lies within `margin_mm` of the mask `outer`; 1 where one is not there."""
    if inner not in masks or outer not in masks:
        return 1.0
    part, around = crop_to_foreground(masks[inner]), crop_to_foreground(masks[outer])
    if part is None or around is None:
        return 1.0
    if outer == "zones" and list_missing_zones(masks["zones"]):
        return 1.0
    near = around != 0
    if margin_mm:
        margin = (
            np.ceil((margin_mm + np.array(around.GetSpacing())) / np.array(around.GetSpacing())).astype(int).tolist()
        )
        padded = sitk.ConstantPad(near, margin, margin)
        near = sitk.SignedMaurerDistanceMap(padded, squaredDistance=False, useImageSpacing=True) <= margin_mm
    on_part = sitk.Resample(near, part, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    return float(sitk.GetArrayViewFromImage(on_part)[sitk.GetArrayViewFromImage(part) != 0].mean())


def _refuse(case_id: str, text: str) -> DataError:
    return DataError(
        f"MASK_SPACE case={case_id}: expected {text}; look at both on the T2W: one of them may be mirrored, turned, or "
        "of another patient."
    )
