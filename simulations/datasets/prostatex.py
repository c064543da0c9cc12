"""PROSTATEx (Litjens et al. 2014; TCIA, 10.7937/K9TCIA.2017.MURS5CL): 346 patients of Radboud, DICOM, CC BY 3.0.

    root/ (or root/PROSTATEx/, root/manifest-*/PROSTATEx/)
      ProstateX-NNNN/<mm-dd-yyyy...>/<series>/*.dcm
    root/ or a folder in it
      ProstateX-Findings-Train*.csv    ProxID, fid, pos, zone, ClinSig: a finding a row; (ProxID, fid) is not unique
      ProstateX-Findings-Test*.csv     optional, the same without ClinSig

`pos` is "x y z" in mm, LPS. A patient with a finding of ClinSig TRUE has csPCa, one whose findings are all FALSE has
none, of others it is not known. There are no contours: only studies without csPCa have a (blank) lesion mask. 328 of
the studies are in PI-CAI as well, under other numbers: see `overlap`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.shell.tables import Row, raise_mistakes, read_table
from prostafed.simulations.datasets import stop
from prostafed.simulations.datasets.dicom_files import read_dicom
from prostafed.simulations.datasets.study import (
    Case,
    StudyFiles,
    Volumes,
    check_sequences,
    choose_centers,
    import_studies,
)

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


def import_prostatex(
    root: Path,
    grid: Grid,
    sequences: tuple[str, ...],
    centers: tuple[str, ...] = (),
    on_error: Callable[[DataError], None] = stop,
    allow_missing: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id.

    Where none of a patient's findings lies on the T2, that is a LABEL_CONFLICT; some may, for ProstateX-0025 has two
    studies, and the table does not tell which a finding is of. See `Importer` for what else is raised.
    """
    check_sequences("PROSTATEx", SEQUENCES, sequences, allow_missing)
    findings = read_findings(root)
    studies = choose_centers(_locate(root, findings), centers, "PROSTATEx")

    def read(study: StudyFiles) -> Volumes:
        record = study.record
        volumes = read_dicom(record, study.images["t2w"], sequences, allow_missing)
        own = findings.get(record.patient_id, ())
        if own and not any(_holds(volumes.images["t2w"], finding.position_mm) for finding in own):
            raise DataError(
                f"LABEL_CONFLICT case={record.case_id}: expected a finding of the patient to lie on the T2, found all "
                f"{len(own)} outside it; check that table and images are of one release."
            )
        return volumes

    return import_studies(studies, read, grid, sequences, on_error, allow_missing)


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return the studies found below `root`; raises DataError for missing tables or images, or a wrong cell."""
    return _locate(root, read_findings(root))


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


def _locate(root: Path, findings: Mapping[str, Sequence[FindingRow]]) -> tuple[StudyFiles, ...]:
    """Return a study per <patient>/<date> folder, by case id <patient>_<mm-dd-yyyy>."""
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
    return tuple(
        StudyFiles(
            CaseRecord(
                case_id,
                case_id.partition("_")[0],
                center="RUMC",
                cspca=_decide(findings.get(case_id.partition("_")[0], ())),
                source="prostatex",
            ),
            dict.fromkeys(SEQUENCES, folders[case_id]),
            {},
        )
        for case_id in sorted(folders)
    )


def _decide(findings: Sequence[FindingRow]) -> bool | None:
    """Return whether any finding is csPCa; None where there is none, or where one that could be is not told."""
    told = [finding.ClinSig in {"TRUE", "True", "1"} for finding in findings if finding.ClinSig]
    if any(told):
        return True
    return False if told and len(told) == len(findings) else None


def _holds(image: sitk.Image, position_mm: tuple[float, float, float]) -> bool:
    index = np.array(image.TransformPhysicalPointToContinuousIndex(position_mm))
    return bool(np.all((index >= -0.5) & (index <= np.array(image.GetSize()) - 0.5)))
