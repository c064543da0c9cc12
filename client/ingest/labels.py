"""Delineations from NIfTI, MHA, NRRD, DICOM SEG and RTSTRUCT; and what their values mean, made one convention."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom import dcmread

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.image_files import read_image
from prostafed.common.imaging.masks import show_label
from prostafed.common.imaging.resample import as_image

LesionCoding = Literal["binary", "isup"]
ZonesCoding = Literal["pz1_tz2", "tz1_pz2"]
SIGNIFICANT_ISUP = 2  # csPCa from here on

_OFF_PLANE = 0.25  # slices: how far from a slice of the reference a contour may lie

Points = npt.NDArray[np.float64]  # (n, 3): index coordinates (x, y, z)


def read_mask(path: Path, reference: sitk.Image) -> sitk.Image:
    """Return a mask as a label image: on its own grid, or of contours on that of `reference`.

    Labels are the file's own; of a SEG its segment numbers, of an RTSTRUCT its ROI numbers, and 1 where it has one
    only. Raises SourceError: UNREADABLE, MASK_SPACE (contours off the slices of the reference), MASK_LABEL (segments
    or regions that overlap, a SEG that is not binary), NO_GEOMETRY (a SEG that is no volume).
    """
    if not _is_dicom(path):
        return read_image(path, "the mask")
    found = "one that is damaged"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file
            dataset = dcmread(path)
            modality = dataset.get("Modality")
            if modality == "SEG":
                return _read_segmentation(dataset)
            if modality == "RTSTRUCT":
                return fill_contours(_read_contours(dataset, reference), reference)
            found = "another DICOM file"
    except SourceError:
        raise
    except Exception:  # a damaged file makes the DICOM libraries raise anything at all; their words hold paths
        pass
    raise SourceError("UNREADABLE", f"expected a mask as DICOM SEG or RTSTRUCT, found {found}; export it again.", "F")


def fill_contours(contours: Mapping[int, Iterable[Points]], reference: sitk.Image) -> sitk.Image:
    """Return closed contours (label -> contours in index coordinates of `reference`) as a label image on it.

    A voxel is inside where its centre lies within an odd number of the contours of a label and slice: a contour within
    another is a hole. Raises SourceError: MASK_SPACE for a contour that lies between slices or beyond them, MASK_LABEL
    for labels that share a voxel.
    """
    from matplotlib.path import Path as Polygon  # slow to import, and few sites have contours

    labels = np.zeros(reference.GetSize()[::-1], dtype=np.uint16)
    for label, polygons in contours.items():
        inside = np.zeros(labels.shape, dtype=np.bool_)
        for points in polygons:
            plane = round(float(points[:, 2].mean()))
            if np.abs(points[:, 2] - plane).max() > _OFF_PLANE or not 0 <= plane < len(labels):
                raise SourceError(
                    "MASK_SPACE",
                    "expected contours on the slices of the image named by mask_space, found one off them; name the "
                    "image the contours were drawn on.",
                )
            low = np.maximum(np.ceil(points[:, :2].min(axis=0)), 0).astype(int)
            high = np.minimum(np.floor(points[:, :2].max(axis=0)) + 1, labels.shape[:0:-1]).astype(int)
            if np.any(high <= low):
                continue
            x, y = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
            centres = np.stack((x.ravel(), y.ravel()), axis=1)
            filled = Polygon(points[:, :2], closed=False).contains_points(centres).reshape(x.shape)
            inside[plane, low[1] : high[1], low[0] : high[0]] ^= filled
        if shared := np.count_nonzero(labels[inside]):
            raise SourceError(
                "MASK_LABEL",
                f"expected regions that do not overlap, found {len(contours)} of which two share {shared} voxels; "
                "export one file per mask, with regions beside each other.",
            )
        labels[inside] = label
    return as_image(labels, reference)


def select_lesions(
    mask: sitk.Image, coding: LesionCoding, isup_by_label: Mapping[int, int | None] | None = None
) -> sitk.Image:
    """Return a lesion mask as 0/1: 1 is clinically significant cancer (ISUP >= 2).

    "binary": 1 is a lesion; or, where lesions.csv gives labels, each value is the lesion of that label. "isup": values
    are grades 0-5. Raises SourceError (MASK_LABEL) for another value, or a lesion whose grade nobody knows.
    """
    values = sitk.GetArrayFromImage(mask)
    found = _list_labels(values)
    if coding == "isup":
        meaning: Mapping[float, int | None] = {grade: grade for grade in range(1, 6)}
    elif isup_by_label:
        meaning = dict(isup_by_label.items())
    else:
        meaning = {1: SIGNIFICANT_ISUP}
    for label in found:
        if meaning.get(label) is None:  # 2.0 is 2 here; NaN and 1.5 are no key
            what = "a lesion of known ISUP grade in lesions.csv" if isup_by_label else "its coding's labels"
            raise SourceError(
                "MASK_LABEL",
                f"expected {what} ({', '.join(str(one) for one in sorted(meaning))}) in the lesion mask, found "
                f"{show_label(label)}; correct the mask, its coding or lesions.csv.",
            )
    significant = [label for label, grade in meaning.items() if grade is not None and grade >= SIGNIFICANT_ISUP]
    return as_image(np.isin(values, significant).astype(np.uint8), mask)


def order_zones(mask: sitk.Image, coding: ZonesCoding) -> sitk.Image:
    """Return a mask of zones with 1 = peripheral, 2 = transition. Raises SourceError (MASK_LABEL) for other labels."""
    values = sitk.GetArrayFromImage(mask)
    if wrong := [label for label in _list_labels(values) if label not in (1, 2)]:
        raise SourceError(
            "MASK_LABEL", f"expected 0, 1 and 2 in the mask of the zones, found {show_label(wrong[0])}; correct it."
        )
    peripheral, transition = (1, 2) if coding == "pz1_tz2" else (2, 1)
    zones = np.zeros(values.shape, dtype=np.uint8)
    zones[values == peripheral], zones[values == transition] = 1, 2
    return as_image(zones, mask)


def is_empty(mask: sitk.Image) -> bool:
    """Return whether a mask delineates nothing."""
    return not np.any(sitk.GetArrayViewFromImage(mask))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False  # reading it as an image says so


def _read_segmentation(dataset: Any) -> sitk.Image:
    import highdicom  # slow to import, and few sites have it

    segmentation = highdicom.seg.Segmentation.from_dataset(dataset, copy=False)
    numbers = sorted(segmentation.segment_numbers)
    if segmentation.segmentation_type == highdicom.seg.SegmentationTypeValues.FRACTIONAL:
        raise SourceError(
            "MASK_LABEL", "expected a binary SEG, found a fractional one; export it as binary, or as NIfTI with labels."
        )
    if segmentation.get_volume_geometry() is None:
        raise SourceError(
            "NO_GEOMETRY", "expected a SEG on parallel, evenly spaced slices, found one that is not; export it again."
        )
    try:
        volume = segmentation.get_volume(combine_segments=True, dtype=np.uint8)
    except RuntimeError:
        raise SourceError(
            "MASK_LABEL",
            f"expected segments that do not overlap, found {len(numbers)} of which two do; export one file per mask.",
        ) from None
    mask = sitk.PermuteAxes(volume.to_simpleitk(), (2, 1, 0))  # highdicom counts slices along the first axis
    return mask != 0 if len(numbers) == 1 else mask


def _read_contours(dataset: Any, reference: sitk.Image) -> dict[int, list[Points]]:
    contours: dict[int, list[Points]] = {}
    for roi in dataset.ROIContourSequence:
        for contour in roi.get("ContourSequence") or ():
            points = np.array(contour.ContourData, dtype=np.float64).reshape(-1, 3)
            if len(points) >= 3:
                contours.setdefault(int(roi.ReferencedROINumber), []).append(_to_index(points, reference))
    return {1: next(iter(contours.values()))} if len(contours) == 1 else contours


def _to_index(points_mm: Points, image: sitk.Image) -> Points:
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return np.asarray(np.linalg.solve(axes, (points_mm - np.array(image.GetOrigin())).T).T, dtype=np.float64)


def _list_labels(values: npt.NDArray[Any]) -> list[Any]:
    return list(np.unique(values[values != 0]))
