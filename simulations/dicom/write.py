"""A study as a folder of DICOM files, as an archive exports it: <folder>/<series number>/<instance>.dcm."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite

from prostafed.common.shell.files import appearing, make_folder, write_bytes
from prostafed.simulations.dicom.classic import make_slices
from prostafed.simulations.dicom.enhanced import make_multi_frame
from prostafed.simulations.dicom.scan import Scan
from prostafed.simulations.dicom.style import Identity, Style


def write_study(folder: Path, identity: Identity, style: Style, scans: Sequence[Scan]) -> dict[int, Scan]:
    """Write `scans` to the new folder `folder`, whole or not at all; return what each series number shows."""
    series = dict(enumerate((part for scan in scans for part in style.split(scan)), start=1))
    with appearing(folder) as whole:
        for number, scan in series.items():
            part = make_folder(whole / f"{number:04d}")
            datasets = (
                (make_multi_frame(identity, style, scan, number),)
                if style.enhanced
                else make_slices(identity, style, scan, number)
            )
            for instance, dataset in enumerate(datasets, start=1):
                content = BytesIO()
                dcmwrite(content, dataset, enforce_file_format=True)
                write_bytes(part / f"{instance:04d}.dcm", content.getvalue())
    return series
