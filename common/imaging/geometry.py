"""From the images and masks of one study, as read, to a case on the grid of the study file; refusals are DataErrors.

Each message is one sentence, `CODE case=<id>: what was expected, what was found, what to do`. Codes: NO_GEOMETRY,
BAD_ORIENTATION, NOT_FINITE, LOW_OVERLAP, BLANK here; MASK_LABEL and MASK_SPACE from `masks` and
`agreement`.
"""

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.agreement import check_agreement
from prostafed.common.imaging.cases import MASKS, Grid, Image, Masks
from prostafed.common.imaging.intensity import normalise
from prostafed.common.imaging.masks import center_of_mass, check_labels, check_space, prepare_mask
from prostafed.common.imaging.resample import BoolArray, Point, covered, lay_box, resample, settle_center

MIN_COVERAGE = 0.75  # of the box, or
MIN_GLAND_COVERAGE = 0.95  # of the gland: a reduced field of view may leave the box as long as it holds the gland


def prepare_case(
    case_id: str,
    sequences: Mapping[str, sitk.Image],
    masks: Mapping[str, sitk.Image],
    grid: Grid,
    center_mm: Point | None = None,
    *,
    reference: sitk.Image | None = None,
    channels: tuple[str, ...] | None = None,
) -> tuple[Image, Masks]:
    """Return the image (sequence, z, y, x) float16, normalised, and the masks (MASKS, z, y, x) uint8 of one study.

    The grid lies on the axes of `reference`: by default the t2w, or without one the first sequence. Its centre is
    `center_mm` (x, y, z in mm, LPS) where given; else near the gland's centre of mass, or without a gland near the
    reference's centre (see `settle_center`). In PI-CAI the gland lies up to 60 mm off the centre of the scan: a crop on
    it spends its voxels on the prostate.

    The image has `channels` in that order, by default those of `sequences`; a channel that `sequences` lacks is zeros,
    and no other is: that is how a missing sequence is known from here on. Each sequence is interpolated once in float32
    (t2w: cubic B-spline clamped to the range of its input; others: linear) and normalised over the voxels it covers;
    the others take its lowest value, as air has. `masks` may lie on any grid of the same patient space; names of MASKS
    that are missing become zeros. Lesions come as 0/1 or as ISUP grades 0-5, and leave as 0/1. Raises DataError where
    the study must be refused.
    """
    if reference is None:
        reference = sequences["t2w"] if "t2w" in sequences else next(iter(sequences.values()))
    for name, image in (*sequences.items(), *masks.items(), ("reference", reference)):
        _check_geometry(case_id, name, image)
    for name, mask in masks.items():
        check_labels(case_id, name, mask)
        check_space(case_id, name, mask, reference)
    check_agreement(case_id, masks)
    if center_mm is None:
        gland_mm = center_of_mass(masks["gland"]) if "gland" in masks else None
        center_mm = settle_center(gland_mm, reference, grid)
    box = lay_box(reference, grid, center_mm)
    voxels = np.zeros((len(MASKS), *grid.size), dtype=np.uint8)
    for name, mask in masks.items():
        voxels[MASKS.index(name)] = prepare_mask(case_id, name, mask, box)
    gland = voxels[MASKS.index("gland")] > 0
    image = np.zeros((len(channels or sequences), *grid.size), dtype=np.float16)
    for channel, name in zip(image, channels or sequences, strict=True):
        if name in sequences:
            channel[:] = _prepare_sequence(case_id, name, sequences[name], box, gland)
    return image, voxels


def _prepare_sequence(case_id: str, name: str, image: sitk.Image, box: sitk.Image, gland: BoolArray) -> Image:
    if not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        raise DataError(
            f"NOT_FINITE case={case_id}: expected finite voxels in {name}, found NaN or infinity; "
            "export the series again."
        )
    inside = covered(box, image)
    coverage = inside.mean()
    if coverage < MIN_COVERAGE and not (gland.any() and inside[gland].mean() >= MIN_GLAND_COVERAGE):
        extent = "x".join(f"{size * step:.0f}" for size, step in zip(box.GetSize(), box.GetSpacing(), strict=True))
        raise DataError(
            f"LOW_OVERLAP case={case_id}: expected {name} to cover at least {MIN_COVERAGE:.0%} of the box of "
            f"{extent} mm (x, y, z) or the whole gland, found {coverage:.0%} of the box; choose the series of this "
            "study that shows the whole prostate, or a smaller size in the study file."
        )
    values = normalise(resample(image, box, spline=name == "t2w")[inside])
    if not values.any():
        raise DataError(
            f"BLANK case={case_id}: expected an image in {name}, found one value nearly everywhere in the box; "
            "look at the series and choose another."
        )
    channel = np.full(inside.shape, values.min(), dtype=np.float16)
    channel[inside] = values
    return channel


def _check_geometry(case_id: str, name: str, image: sitk.Image) -> None:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError(
            f"NO_GEOMETRY case={case_id}: expected {name} to be one 3D volume, found {image.GetDimension()} dimensions "
            f"and {image.GetNumberOfComponentsPerPixel()} values per voxel; export one volume per sequence."
        )
    axes = np.array(image.GetDirection()).reshape(3, 3)
    numbers = (*image.GetOrigin(), *image.GetSpacing(), *axes.ravel())
    if not (np.isfinite(numbers).all() and np.abs(axes.T @ axes - np.eye(3)).max() <= 1e-3):
        raise DataError(
            f"BAD_ORIENTATION case={case_id}: expected a finite position and perpendicular axes of length 1 in {name}, "
            f"found {np.round(axes, 3).tolist()}; export it again from the scanner or the archive."
        )
