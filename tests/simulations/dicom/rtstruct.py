"""A delineation as an RT structure set: closed outlines in the slices of a series."""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import contourpy
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from prostafed.common.shell.files import write_bytes
from prostafed.simulations.dicom.classic import format_number, make_uid
from prostafed.simulations.dicom.scan import Placement
from prostafed.simulations.phantom.masks import Mask

_OF_THE_STUDY = (
    "SpecificCharacterSet", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyInstanceUID",
    "StudyID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "FrameOfReferenceUID",
)  # fmt: skip


def write_rtstruct(
    path: Path, mask: Mask, placement: Placement, sources: Sequence[Path], labels: Sequence[str]
) -> None:
    """Write an RTSTRUCT of the series in `sources`; ROI n, called labels[n - 1], outlines where `mask` is n.

    Outlines run half-way between the centres of voxels inside and outside, so that filling them by centres gives the
    mask back exactly; a hole is an outline of its own within (even-odd rule).
    """
    source = pydicom.dcmread(sources[0], stop_before_pixels=True)
    dataset = _start_structure_set(source, path.stem)
    uids = [pydicom.dcmread(each, specific_tags=["SOPInstanceUID"]).SOPInstanceUID for each in sources]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    dataset.RTROIObservationsSequence = []
    for number, label in enumerate(labels, start=1):
        roi, contours, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, label, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = source.FrameOfReferenceUID
        contours.ReferencedROINumber, contours.ROIDisplayColor = number, [255, 0, 0]
        contours.ContourSequence = [
            _make_contour(points, source.SOPClassUID, uids[index if len(uids) > 1 else 0])
            for index, points in _outline(mask == number, placement)
        ]
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(contours)
        dataset.RTROIObservationsSequence.append(observation)
    content = BytesIO()
    pydicom.dcmwrite(content, dataset, enforce_file_format=True)
    write_bytes(path, content.getvalue())


def _start_structure_set(source: Dataset, name: str) -> Dataset:
    """Return the dataset with the patient and study of `source`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _OF_THE_STUDY:
        dataset[keyword] = source[keyword]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = make_uid(source.SOPInstanceUID, name, "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesInstanceUID, dataset.SeriesNumber = make_uid(source.SOPInstanceUID, name, "series"), 901
    dataset.Modality, dataset.Manufacturer, dataset.ManufacturerModelName = "RTSTRUCT", "prostafed", "GENERATED"
    dataset.StructureSetLabel = "GENERATED"
    dataset.StructureSetDate, dataset.StructureSetTime = source.StudyDate, source.StudyTime
    referenced = Dataset()
    referenced.FrameOfReferenceUID = source.FrameOfReferenceUID
    dataset.ReferencedFrameOfReferenceSequence = [referenced]
    return dataset


def _outline(inside: npt.NDArray[np.bool_], placement: Placement) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield (slice, closed outline (point, 3) in mm)."""
    rows_mm, columns_mm = placement.pixel_mm
    for index, plane in enumerate(inside):
        padded = np.pad(plane.astype(np.float64), 1)
        for line in contourpy.contour_generator(z=padded).lines(0.5):
            column, row = (np.asarray(line)[:-1] - 1).T  # the last point repeats the first
            yield (
                index,
                placement.position(index)
                + np.outer(column * columns_mm, placement.along_row)
                + np.outer(row * rows_mm, placement.along_column),
            )


def _make_contour(points: npt.NDArray[np.float64], sop_class: str, instance: str) -> Dataset:
    contour, image = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = sop_class, instance
    contour.ContourImageSequence = [image]
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [format_number(float(each)) for each in points.ravel()]
    return contour
