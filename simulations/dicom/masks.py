"""A delineation beside an image series, as an image file. Arrays are (slice, row, column)."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from prostafed.common.shell.files import write_image
from prostafed.simulations.dicom.scan import Placement

Mask = npt.NDArray[np.uint8]


def write_nifti(path: Path, mask: Mask, placement: Placement) -> None:
    """Write a mask of any labels; the suffix may be that of any format SimpleITK writes."""
    image = sitk.GetImageFromArray(mask)
    rows_mm, columns_mm = placement.pixel_mm
    image.SetSpacing((columns_mm, rows_mm, placement.slice_mm))
    image.SetOrigin(placement.origin_mm.tolist())
    axes = (placement.along_row, placement.along_column, placement.normal)
    image.SetDirection(np.stack(axes, axis=1).ravel().tolist())
    write_image(path, image)
