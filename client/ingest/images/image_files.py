"""Image files that are no DICOM series: NIfTI, MHA, NRRD, as SimpleITK reads them, without their metadata."""

from pathlib import Path

import SimpleITK as sitk

from prostafed.client.findings import Severity, SourceError
from prostafed.common.imaging.files import read_file
from prostafed.common.imaging.nifti import MAX_DIFFERENCE_VOXELS, measure_disagreement


def read_image(path: Path, what: str, severity: Severity = "F") -> sitk.Image:
    """Return the 3D image of a file; `what` names it in errors ("the lesion mask").

    Raises SourceError, with `severity`: UNREADABLE, NO_GEOMETRY, BAD_ORIENTATION, MASK_SPACE (a NIfTI file that gives
    two positions).
    """
    if not path.is_file():
        raise SourceError(
            "UNREADABLE",
            f"expected {what} where studies.csv has it, found no such file; correct the cell or put the file there.",
            severity,
        )
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name the file
    try:
        image = read_file(path)
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise SourceError(
                "BAD_ORIENTATION",
                f"expected {what} on perpendicular axes, found axes that are not orthonormal (sheared); resample it "
                "onto the image it was drawn on, or export it again.",
                severity,
            ) from None
        raise SourceError(
            "UNREADABLE",
            f"expected {what} as NIfTI, MHA or NRRD, found a file that cannot be read; export it again.",
            severity,
        ) from None
    if (apart := measure_disagreement(path)) > MAX_DIFFERENCE_VOXELS:
        raise SourceError(
            "MASK_SPACE",
            f"expected one position of {what}, found two that lie {apart:.1f} voxels apart (qform and sform of the "
            "NIfTI file); save it with the right one in both.",
            severity,
        )
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise SourceError(
            "NO_GEOMETRY",
            f"expected {what} to be one 3D volume, found {image.GetDimension()} dimensions and "
            f"{image.GetNumberOfComponentsPerPixel()} values per voxel; save one volume per file.",
            severity,
        )
    for key in image.GetMetaDataKeys():  # the file may repeat a DICOM header there
        image.EraseMetaData(key)
    return image
