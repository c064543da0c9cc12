"""Image files as SimpleITK reads them, whatever bytes their path is made of."""

from pathlib import Path

import SimpleITK as sitk

from prostafed.common.imaging.nifti import is_cut_short
from prostafed.common.shell.files import is_text, link_to, scratch_folder


def read_file(path: Path) -> sitk.Image:
    """Return the image of a file; raises RuntimeError where it is none, or not a whole one.

    SimpleITK ends the process over a path that is no UTF-8, as folder names of an older Windows are: such a file is
    read through a link.
    """
    if is_cut_short(path):
        raise RuntimeError("The file ends before its last voxel.")
    if is_text(str(path)):
        return sitk.ReadImage(str(path))
    with scratch_folder() as folder:
        suffixes = "".join(path.suffixes).encode("ascii", "ignore").decode()
        link = folder / f"image{suffixes}"
        link_to(link, path.absolute())
        return sitk.ReadImage(str(link))
