"""One study of a public set, from its files to a case; which codes name what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid, Image, Masks
from prostafed.common.imaging.files import read_file
from prostafed.common.imaging.geometry import prepare_case
from prostafed.common.imaging.masks import show_label
from prostafed.common.imaging.nifti import MAX_DIFFERENCE_VOXELS, measure_disagreement
from prostafed.common.imaging.resample import as_image
from prostafed.simulations.datasets.fingerprint import describe_volume

MISSING = {"t2w": "NO_T2", "adc": "NO_ADC", "hbv": "NO_HBV"}
AS_PUBLISHED = "as distributed"
Case = tuple[CaseRecord, Image, Masks]


@dataclass(frozen=True)
class Selection:
    """What is taken of a set, and what its cases are made to."""

    root: Path
    grid: Grid
    sequences: tuple[str, ...]
    allow_missing: tuple[str, ...] = ()  # sequences that a study may lack
    centers: tuple[str, ...] = ()  # only their studies; none: all
    fold: int | None = None  # of the official split: only the studies it validates in that fold


@dataclass(frozen=True)
class StudyFiles:
    """Where the images and masks of one study belong, and what tables say of it (no masks or sequences yet)."""

    record: CaseRecord
    images: Mapping[str, Path]  # sequence -> file, or the folder of a DICOM study; it may be missing on disk
    masks: Mapping[str, Path]  # of MASKS -> file; only those that exist
    lacks: str = ""  # a sentence on what should be there, but can be done without
    findings_mm: tuple[
        tuple[float, float, float], ...
    ] = ()  # where tables place the patient's findings: (x, y, z), LPS


@dataclass(frozen=True)
class Volumes:
    """One study as read."""

    record: CaseRecord
    images: Mapping[str, sitk.Image]  # the t2w always, others as far as the study has them
    masks: Mapping[str, sitk.Image]
    sources: Mapping[str, str] = field(default_factory=dict)  # sequence -> how it came about; if not told, as published


def make_case(volumes: Volumes, selection: Selection) -> Case:
    """Return record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of one study.

    The record's `masks` leaves out what nobody delineated: an empty gland or zones, the lesion of a positive study
    without a lesion mask. A negative study needs none: zeros are its delineation. Raises DataError (NO_ADC, ...,
    LABEL_CONFLICT, and those of `prepare_case`).
    """
    record, images, masks = volumes.record, volumes.images, volumes.masks
    sequences = selection.sequences
    for name in sequences:
        if name not in images and name not in selection.allow_missing:
            raise DataError(
                f"{MISSING[name]} case={record.case_id}: expected {name}, found none; take the study out, or allow "
                "the sequence to be missing: allow_missing in the study's [data]."
            )
    delineated = {name for name, mask in masks.items() if np.any(sitk.GetArrayViewFromImage(mask))}
    if record.cspca is not None and "lesion" in masks and record.cspca != ("lesion" in delineated):
        found = "YES without one" if record.cspca else "NO with a lesion"
        raise DataError(
            f"LABEL_CONFLICT case={record.case_id}: expected a lesion in the mask where case_csPCa is YES and none "
            f"where it is NO, found {found}; correct the marksheet or the mask."
        )
    if "lesion" in masks or record.cspca is False:
        delineated.add("lesion")
    present = {name: images[name] for name in sequences if name in images}
    image, voxels = prepare_case(
        record.case_id, present, masks, selection.grid, reference=images["t2w"], channels=sequences
    )
    known = replace(
        record,
        masks=tuple(name for name in MASKS if name in delineated),
        sequences={name: volumes.sources.get(name, AS_PUBLISHED) for name in present},
        fingerprint=describe_volume(images["t2w"]),
    )
    return known, image, voxels


def read_images(study: StudyFiles, selection: Selection, advice: str) -> dict[str, sitk.Image]:
    """Return the t2w and the sequences asked for that are there; `advice` ends the sentence on one that is missing.

    Raises DataError (NO_T2, NO_ADC, NO_HBV, UNREADABLE) unless the sequence may be missing.
    """
    images = {}
    for name in dict.fromkeys(("t2w", *selection.sequences)):
        path = study.images.get(name)
        if path is not None and path.is_file():
            images[name] = read_volume(path, study.record.case_id, name)
        elif path is not None and name not in selection.allow_missing:
            shown = path.relative_to(selection.root) if path.is_relative_to(selection.root) else path
            raise DataError(
                f"{MISSING[name]} case={study.record.case_id}: expected {shown}, found no such file; {advice}"
            )
    return images


def read_masks(study: StudyFiles) -> dict[str, sitk.Image]:
    """Return the masks as stored, by name."""
    return {name: read_volume(path, study.record.case_id, f"the {name} mask") for name, path in study.masks.items()}


def read_volume(path: Path, case_id: str, what: str) -> sitk.Image:
    """Return the image of a file; raises DataError (UNREADABLE; MASK_SPACE for a NIfTI file of two positions)."""
    if (apart := measure_disagreement(path)) > MAX_DIFFERENCE_VOXELS:
        raise DataError(
            f"MASK_SPACE case={case_id}: expected one position in {path.name} ({what}), found two that lie {apart:.1f} "
            "voxels apart (qform and sform); check that the file is the one the set publishes."
        )
    try:
        return read_file(path)
    except RuntimeError as error:
        raise DataError(
            f"UNREADABLE case={case_id}: expected an image in {path.name} ({what}), found a file that cannot be read; "
            "copy it again from its source."
        ) from error


def recode(mask: sitk.Image, codes: Mapping[int, int], case_id: str, name: str) -> sitk.Image:
    """Return `mask` with each label replaced as `codes` says and 0 kept, uint8; raises DataError (MASK_LABEL)."""
    values = sitk.GetArrayViewFromImage(mask)
    recoded = np.zeros(values.shape, dtype=np.uint8)
    for label in np.unique(values[values != 0]):
        if label not in codes:
            raise DataError(
                f"MASK_LABEL case={case_id}: expected {sorted(codes)} in the {name} mask, found {show_label(label)}; "
                "check that the file is the one the set publishes."
            )
        recoded[values == label] = codes[label]
    return as_image(recoded, mask)


def add_gland(masks: dict[str, sitk.Image], case_id: str, codes: dict[int, int]) -> dict[str, sitk.Image]:
    """Return `masks` with the zones coded 1 = PZ, 2 = TZ, and the gland as their union."""
    if "zones" not in masks:
        return masks
    zones = recode(masks["zones"], codes, case_id, "zones")
    return {**masks, "zones": zones, "gland": zones > 0}
