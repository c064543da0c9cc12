"""Image files as SimpleITK reads them, whatever bytes their path is made of."""

from pathlib import Path

import SimpleITK as sitk

from prostafed.common.files import is_text, link_to, scratch_folder


def read_file(path: Path) -> sitk.Image:
    """Return the image of a file; raises RuntimeError where it is none.

    SimpleITK ends the process over a path that is no UTF-8, as folder names of an older Windows are: such a file is
    read through a link.
    """
    if is_text(str(path)):
        return sitk.ReadImage(str(path))
    with scratch_folder() as folder:
        suffixes = "".join(path.suffixes).encode("ascii", "ignore").decode()
        link = folder / f"image{suffixes}"
        link_to(link, path.absolute())
        return sitk.ReadImage(str(link))
