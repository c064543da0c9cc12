"""A case as a reader would look at it first: one axial slice of each sequence, with the outlines of its masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prostafed.common.imaging.cases import MASKS, Grid, Image, Masks
from prostafed.common.pages.pictures import SEQUENCES, Picture, draw_picture

PIXELS = 280  # wide


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case and what they show."""

    case_id: str
    caption: str
    pictures: tuple[Picture, ...]


def draw_case(case_id: str, image: Image, masks: Masks, grid: Grid, present: Sequence[str | None]) -> CasePictures:
    """Return pictures of the slice `choose_slice` names; `present` has a name per channel, None where it is missing."""
    z, reason = choose_slice(masks)
    planes = {name: image[channel, z].astype(np.float32) for channel, name in enumerate(present) if name}
    outlines = {name: masks[MASKS.index(name), z].astype(np.float32) for name in ("gland", "lesion")}
    spacing_mm = (grid.spacing_mm[1], grid.spacing_mm[2])
    pictures = tuple(
        Picture(
            SEQUENCES.get(name, name),
            draw_picture({**planes, **outlines}, name, spacing_mm, pixels=PIXELS, small_file=True),
        )
        for name in planes
    )
    return CasePictures(case_id, f"slice {z + 1} of {image.shape[1]} ({reason})", pictures)


def choose_slice(masks: Masks) -> tuple[int, str]:
    """Return the slice of masks (MASKS, z, y, x) to show, and why: the largest area of lesion, else of gland or zones,
    else the middle one.
    """
    for name, reason in (
        ("lesion", "the largest lesion area"),
        ("gland", "the largest gland"),
        ("zones", "the largest zones"),
    ):
        areas = np.count_nonzero(masks[MASKS.index(name)], axis=(1, 2))
        if areas.any():
            return int(areas.argmax()), reason
    return masks.shape[1] // 2, "the middle one"
