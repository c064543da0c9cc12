"""A study as a folder of DICOM files, as an archive exports it: <folder>/<series number>/<instance>.dcm."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmwrite

from prostafed.simulations.dicom.classic import make_slices
from prostafed.simulations.dicom.enhanced import make_multi_frame
from prostafed.simulations.dicom.scan import Scan
from prostafed.simulations.dicom.style import Identity, Style


def write_study(folder: Path, identity: Identity, style: Style, scans: Sequence[Scan]) -> dict[int, Scan]:
    """Write `scans` to the new folder `folder`, whole or not at all; return what each series number shows."""
    series = dict(enumerate((part for scan in scans for part in style.split(scan)), start=1))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as name:
        whole = Path(name) / folder.name
        for number, scan in series.items():
            part = whole / f"{number:04d}"
            part.mkdir(parents=True)
            datasets = (
                (make_multi_frame(identity, style, scan, number),)
                if style.enhanced
                else make_slices(identity, style, scan, number)
            )
            for instance, dataset in enumerate(datasets, start=1):
                dcmwrite(part / f"{instance:04d}.dcm", dataset, enforce_file_format=True)
        whole.rename(folder)
    return series
