"""The tables beside generated studies: PI-CAI's marksheet (14 columns) and the readers' scores."""

import csv
import io
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from prostafed.common.seeding import derive_seed
from prostafed.simulations.phantom.case import GeneratedStudy

COLUMNS = (
    "patient_id", "study_id", "mri_date", "patient_age", "psa", "psad", "prostate_volume", "histopath_type",
    "lesion_PIRADS", "lesion_GS", "lesion_ISUP", "case_ISUP", "case_csPCa", "center",
)  # fmt: skip
GLEASON = ("0+0", "3+3", "3+4", "4+3", "4+4", "4+5")  # by ISUP


def format_marksheet(studies: Mapping[tuple[str, str], GeneratedStudy]) -> str:
    """Return the marksheet of studies by (patient, study id); lesion columns are comma lists, blank without biopsy."""
    return _format(COLUMNS, [_row(patient, study, studies[patient, study]) for patient, study in studies])


def format_reads(studies: Mapping[tuple[str, str], GeneratedStudy]) -> str:
    """Return one row per case and reader: case_id, lesion_id ("case": the score is the case's), reader_id, pirads."""
    rows = [
        (f"{patient}_{study}", "case", f"reader{number}", score)
        for (patient, study), drawn in studies.items()
        for number, score in enumerate(drawn.reads, start=1)
    ]
    return _format(("case_id", "lesion_id", "reader_id", "pirads"), rows)


def _row(patient_id: str, study_id: str, study: GeneratedStudy) -> tuple[Any, ...]:
    patient = study.patient
    findings = patient.findings
    biopsied = patient.pirads >= 3 or patient.isup > 0
    histology = "" if not biopsied else "MRBx" if patient.pirads >= 3 else "SysBx"
    return (
        patient_id,
        study_id,
        date(2012, 1, 1) + timedelta(days=derive_seed(study.seed, "date") % 3650),
        f"{patient.age:.0f}",
        f"{patient.psa:g}",
        f"{patient.psa / patient.reported_ml:.2f}",
        f"{patient.reported_ml:g}",
        histology,
        ",".join(str(finding.pirads) for finding in findings) or patient.pirads,
        ",".join(GLEASON[finding.isup] for finding in findings) if biopsied else "",
        ",".join(str(finding.isup) for finding in findings) if biopsied else "",
        patient.isup,
        "YES" if patient.cspca else "NO",
        patient.center,
    )


def _format(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
