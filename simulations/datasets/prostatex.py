"""PROSTATEx (Litjens et al. 2014; TCIA, 10.7937/K9TCIA.2017.MURS5CL): 346 patients of Radboud, DICOM, CC BY 3.0.

What lies where is told by `tree` below. A row of the findings (ProxID, fid, pos, zone, and in Train ClinSig) is one
finding; (ProxID, fid) is not unique. `pos` is "x y z" in mm, LPS. A patient with a finding of ClinSig TRUE has csPCa,
one whose findings are all FALSE has none, of others it is not known. There are no contours: only studies without csPCa
have a (blank) lesion mask. 328 of the studies are in PI-CAI as well, under other numbers: see `overlap`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.shell.tables import Row, raise_mistakes, read_table
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.dicom_files import read_dicom
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes

SEQUENCES = ("t2w", "adc", "hbv")
_NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?"


class FindingRow(Row):
    """A finding of one of the tables."""

    ProxID: str = Field(pattern=r"^ProstateX-[0-9]{4}$", description="ProstateX-NNNN")
    pos: str = Field(pattern=f"^ *{_NUMBER} +{_NUMBER} +{_NUMBER} *$", description="x y z in mm, LPS")
    zone: Literal["PZ", "TZ", "AS", "SV"] | None = Field(None, description="the zone")
    ClinSig: Literal["TRUE", "FALSE", "True", "False", "1", "0"] | None = Field(None, description="csPCa or not")

    @property
    def position_mm(self) -> tuple[float, float, float]:
        """(x, y, z), LPS."""
        x, y, z = map(float, self.pos.split())
        return x, y, z


def read_findings(root: Path) -> Mapping[str, Sequence[FindingRow]]:
    """Return the findings of each patient, of the training and the test table."""
    tables = [path for depth in ("", "*/") for path in sorted(root.glob(f"{depth}ProstateX-Findings-*.csv"))]
    if not any("Train" in path.name for path in tables):
        raise DataError(
            f"{root}: expected ProstateX-Findings-Train.csv in it or in a folder in it, found none. It is on the page "
            "of the set, cancerimagingarchive.net/collection/prostatex."
        )
    findings: defaultdict[str, list[FindingRow]] = defaultdict(list)
    mistakes: list[object] = []
    for path in tables:
        table = read_table(path, FindingRow, others=True)
        mistakes += table.mistakes
        for _, row in table.rows:
            findings[row.ProxID].append(row)
    raise_mistakes(mistakes)
    return findings


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return a study per <patient>/<date> folder, by case id <patient>_<mm-dd-yyyy>.

    Raises DataError for missing tables or images, or a wrong cell.
    """
    findings = read_findings(root)
    patients = [path for depth in ("", "*/", "*/*/") for path in root.glob(f"{depth}ProstateX-[0-9][0-9][0-9][0-9]")]
    folders: dict[str, Path] = {}
    mistakes: list[object] = []
    for patient in patients:
        for folder in sorted(path for path in patient.iterdir() if path.is_dir()):
            date = re.match(r"\d{2}-\d{2}-\d{4}", folder.name)
            case_id = f"{patient.name}_{date.group() if date else folder.name}"
            if date is None:
                mistakes.append(f"{patient}: expected folders named mm-dd-yyyy..., found {folder.name}.")
            elif case_id in folders:
                mistakes.append(f"{root}: expected every study in one folder, found two of {case_id}. Keep one.")
            folders[case_id] = folder
    raise_mistakes(mistakes)
    if not folders:
        raise DataError(
            f"{root}: expected ProstateX-NNNN/<date>/<series>/*.dcm in it, in PROSTATEx/ or in manifest-*/PROSTATEx/, "
            "found none. Get the images with the NBIA Data Retriever: cancerimagingarchive.net/collection/prostatex."
        )
    return tuple(_describe(case_id, folders[case_id], findings) for case_id in sorted(folders))


def _describe(case_id: str, folder: Path, findings: Mapping[str, Sequence[FindingRow]]) -> StudyFiles:
    patient = case_id.partition("_")[0]
    own = findings.get(patient, ())
    record = CaseRecord(case_id, patient, center="RUMC", cspca=_decide(own))
    places = tuple(finding.position_mm for finding in own)
    return StudyFiles(record, dict.fromkeys(SEQUENCES, folder), {}, findings_mm=places)


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    """Return the images. Where none of a patient's findings lies on the T2, that is a LABEL_CONFLICT; some may, for
    ProstateX-0025 has two studies, and the table does not tell which a finding is of.
    """
    volumes, places = read_dicom(study, selection), study.findings_mm
    if places and not any(_holds(volumes.images["t2w"], place) for place in places):
        raise DataError(
            f"LABEL_CONFLICT case={study.record.case_id}: expected a finding of the patient to lie on the T2, found "
            f"all {len(places)} outside it; check that table and images are of one release."
        )
    return volumes


def _decide(findings: Sequence[FindingRow]) -> bool | None:
    """Return whether any finding is csPCa; None where there is none, or where one that could be is not told."""
    told = [finding.ClinSig in {"TRUE", "True", "1"} for finding in findings if finding.ClinSig]
    if any(told):
        return True
    return False if told and len(told) == len(findings) else None


def _holds(image: sitk.Image, position_mm: tuple[float, float, float]) -> bool:
    index = np.array(image.TransformPhysicalPointToContinuousIndex(position_mm))
    return bool(np.all((index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)))


DATASET = Dataset(
    name="prostatex",
    title="PROSTATEx (SPIE-AAPM-NCI challenge)",
    centers=("RUMC",),
    sequences=SEQUENCES,
    labels="csPCa yes or no per finding (training part), no contours",
    licence="CC BY 3.0",
    size="346 patients, of whom 204 with published findings",
    origin="cancerimagingarchive.net/collection/prostatex (images with the NBIA Data Retriever, findings as CSV)",
    tree="""ProstateX-NNNN/<date>/<series>/*.dcm      also below PROSTATEx/ or manifest-*/PROSTATEx/
ProstateX-Findings-Train.csv             also in a folder of its own; ProstateX-Findings-Test.csv is optional""",
    list_files=list_files,
    read=_read,
)
