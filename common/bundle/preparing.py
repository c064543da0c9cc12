"""From image files to what a bundle's network is shown; configs/inference.json names this. A hospital's own way starts
at the DICOM files: `prostafed-site predict`.
"""

from collections.abc import Mapping
from pathlib import Path

import SimpleITK as sitk
import torch
from torch import Tensor

from prostafed.common.bundle.record import read_record
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.files import read_file
from prostafed.common.imaging.geometry import prepare_case


class Preparation:
    """Image files of one study (NIfTI, MHA or NRRD) -> images (1, sequence, z, y, x) float32 on the bundle's grid."""

    def __init__(self, record: str | Path) -> None:
        """`record` is the bundle's prostafed.json."""
        self.record, _ = read_record(Path(record).parent)

    def __call__(self, files: Mapping[str, str | Path]) -> Tensor:
        """Return the images of `files` by sequence; raises DataError where one is missing, cannot be read, or the study
        cannot be used.
        """
        needed = set(self.record.sequences) - set(self.record.allow_missing)
        if lacking := sorted(needed - {name for name, path in files.items() if Path(path).is_file()}):
            raise DataError(
                f"Expected a file for each of {', '.join(sorted(needed))}, found none for {', '.join(lacking)}. Name "
                "them in `images` of inference.json, or on the command line."
            )
        images = {name: _read(files[name]) for name in self.record.sequences if Path(files.get(name, "-")).is_file()}
        grid = Grid(self.record.spacing_mm, self.record.size)
        image, _ = prepare_case("-", images, {}, grid, channels=self.record.sequences)
        return torch.from_numpy(image).float()[None]


def _read(path: str | Path) -> sitk.Image:
    try:
        return sitk.Cast(read_file(Path(path)), sitk.sitkFloat32)
    except RuntimeError as error:
        raise DataError(f"{path} is not an image that can be read. Name a NIfTI, MHA or NRRD file.") from error
