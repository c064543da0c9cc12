"""NCI-ISBI 2013 (10.7937/K9/TCIA.2015.zF0vlOPv): 80 T2 studies of two centres with zones, DICOM and NRRD, CC BY 3.0.

    root/, at any depth up to three folders (manifest-*/Prostate-3T/, Training/, ...)
      Prostate3T-0N-NNNN/<study>/<series>/*.dcm     Prostate-3T: Radboud, 3 T
      ProstateDx-0N-NNNN/<study>/<series>/*.dcm     PROSTATE-DIAGNOSIS: Boston, 1.5 T with an endorectal coil
      Prostate{3T,Dx}-0N-NNNN[_correctedLabels].nrrd     1 = PZ, 2 = central gland, here TZ

Some masks (ProstateDx-01-0055: 23 slices for 34) lie on another slice grid than their T2: every mask is placed by its
position in the patient, and one that does not lie on the T2, or is another after resampling, is MASK_SPACE. The
collections hold more patients than the challenge: those come without masks. Nothing is told of cancer.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.simulations.datasets import stop
from prostafed.simulations.datasets.dicom_files import read_dicom
from prostafed.simulations.datasets.study import (
    Case,
    StudyFiles,
    Volumes,
    add_gland,
    check_sequences,
    choose_centers,
    import_studies,
    read_masks,
)

SEQUENCES = ("t2w",)
_CENTERS = {"Prostate3T": "RUMC", "ProstateDx": "Boston"}
_PATIENT = re.compile(r"(Prostate3T|ProstateDx)-0\d-\d{4}")
_DEPTHS = ("", "*/", "*/*/", "*/*/*/")


def import_nci_isbi(
    root: Path,
    grid: Grid,
    sequences: tuple[str, ...],
    centers: tuple[str, ...] = (),
    on_error: Callable[[DataError], None] = stop,
    allow_missing: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id."""
    check_sequences("NCI-ISBI 2013", SEQUENCES, sequences, allow_missing)
    studies = choose_centers(list_files(root), centers, "NCI-ISBI 2013")

    def read(study: StudyFiles) -> Volumes:
        case_id = study.record.case_id
        volumes = read_dicom(study.record, study.images["t2w"], SEQUENCES, allow_missing)
        return replace(volumes, masks=add_gland(read_masks(study), case_id, {1: 1, 2: 2}))

    return import_studies(studies, read, grid, sequences, on_error, allow_missing)


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return a study per patient folder; raises DataError where images or masks are missing, or a patient is twice."""
    folders = [path for depth in _DEPTHS for path in sorted(root.glob(f"{depth}Prostate??-0?-????")) if path.is_dir()]
    files = [path for depth in _DEPTHS for path in sorted(root.glob(f"{depth}Prostate??-0?-????*.nrrd"))]
    patients = {path.name: path for path in folders if _PATIENT.fullmatch(path.name)}
    masks: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: "corrected" in path.name):  # a corrected file comes last and counts
        if found := _PATIENT.match(path.name):
            masks[found.group()] = path
    mistakes = [
        f"{root}: expected {what}, found none. Get it from doi.org/10.7937/K9/TCIA.2015.zF0vlOPv."
        for what, there in (
            ("Prostate3T-0N-NNNN/ and ProstateDx-0N-NNNN/ with the DICOM series", patients),
            ("the masks Prostate{3T,Dx}-0N-NNNN.nrrd", masks),
        )
        if not there
    ]
    mistakes += [
        f"{root}: expected the DICOM series of {name} beside its mask, found no folder {name}/."
        for name in sorted(masks.keys() - patients.keys())
        if patients
    ]
    mistakes += [
        f"{root}: expected {name}/ once, found it in several folders. Keep one."
        for name in patients
        if sum(path.name == name for path in folders) > 1
    ]
    if mistakes:
        raise DataError("\n".join(mistakes))
    return tuple(
        StudyFiles(
            CaseRecord(name, name, center=_CENTERS[name.partition("-")[0]], source="nci-isbi"),
            {"t2w": patients[name]},
            {"zones": masks[name]} if name in masks else {},
        )
        for name in sorted(patients)
    )
