"""NCI-ISBI 2013 (10.7937/K9/TCIA.2015.zF0vlOPv): 80 T2 studies of two centres with zones, DICOM and NRRD, CC BY 3.0.

What lies where is told by `tree` below, up to three folders deep. Prostate-3T is of Radboud, 3 T; PROSTATE-DIAGNOSIS of
Boston, 1.5 T with an endorectal coil. Masks are 1 = PZ, 2 = central gland, here TZ. Some masks (ProstateDx-01-0055: 23
slices for 34) lie on another slice grid than their T2: every mask is placed by its position in the patient, and one
that does not lie on the T2, or is another after resampling, is MASK_SPACE. The collections hold more patients than the
challenge: those come without masks. Nothing is told of cancer.
"""

import re
from dataclasses import replace
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.dicom_files import read_dicom
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, add_gland, read_masks

SEQUENCES = ("t2w",)
_CENTERS = {"Prostate3T": "RUMC", "ProstateDx": "Boston"}
_PATIENT = re.compile(r"(Prostate3T|ProstateDx)-0\d-\d{4}")
_DEPTHS = ("", "*/", "*/*/", "*/*/*/")


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
            CaseRecord(name, name, center=_CENTERS[name.partition("-")[0]]),
            {"t2w": patients[name]},
            {"zones": masks[name]} if name in masks else {},
        )
        for name in sorted(patients)
    )


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    volumes = read_dicom(study, replace(selection, sequences=SEQUENCES))
    return replace(volumes, masks=add_gland(read_masks(study), study.record.case_id, {1: 1, 2: 2}))


DATASET = Dataset(
    name="nci-isbi",
    title="NCI-ISBI 2013 (Prostate-3T and PROSTATE-DIAGNOSIS)",
    centers=("RUMC", "Boston"),
    sequences=SEQUENCES,
    labels="zones (peripheral zone, central gland)",
    licence="CC BY 3.0",
    size="80 labelled studies, one per patient: 60 training, 10 leaderboard, 10 test",
    origin="doi.org/10.7937/K9/TCIA.2015.zF0vlOPv (three .tcia image lists, three zip files of masks)",
    tree="""Prostate-3T/Prostate3T-0N-NNNN/<study>/<series>/*.dcm            also below manifest-*/
PROSTATE-DIAGNOSIS/ProstateDx-0N-NNNN/<study>/<series>/*.dcm
Prostate{3T,Dx}-0N-NNNN.nrrd             in any folder; ProstateDx-01-0006_correctedLabels.nrrd as published""",
    list_files=list_files,
    read=_read,
)
