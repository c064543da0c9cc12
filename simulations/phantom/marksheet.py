"""The tables beside generated studies: PI-CAI's marksheet (14 columns) and the readers' scores."""

from datetime import date, timedelta
from typing import Any

from prostafed.common.seeding import derive_seed
from prostafed.simulations.phantom.case import GeneratedStudy

COLUMNS = (
    "patient_id", "study_id", "mri_date", "patient_age", "psa", "psad", "prostate_volume", "histopath_type",
    "lesion_PIRADS", "lesion_GS", "lesion_ISUP", "case_ISUP", "case_csPCa", "center",
)  # fmt: skip
READ_COLUMNS = ("case_id", "lesion_id", "reader_id", "pirads")
GLEASON = ("0+0", "3+3", "3+4", "4+3", "4+4", "4+5")  # by ISUP


def list_reads(case_id: str, study: GeneratedStudy) -> list[dict[str, Any]]:
    """Return a row per reader of a case; lesion_id "case" says that the score is the case's."""
    return [
        {"case_id": case_id, "lesion_id": "case", "reader_id": f"reader{number}", "pirads": score}
        for number, score in enumerate(study.reads, start=1)
    ]


def scan_day(study: GeneratedStudy) -> date:
    """Return the invented date of the examination."""
    return date(2012, 1, 1) + timedelta(days=derive_seed(study.seed, "date") % 3650)


def describe_clinic(study: GeneratedStudy) -> dict[str, Any]:
    """Return what a clinic knows of a patient, by the columns of both the marksheet and a hospital's manifest."""
    patient = study.patient
    return {
        "mri_date": scan_day(study),
        "patient_age": f"{patient.age:.0f}",
        "psa": f"{patient.psa:g}",
        "psad": f"{patient.psa / patient.reported_ml:.2f}",
        "prostate_volume": f"{patient.reported_ml:g}",
        "histopath_type": ("MRBx" if patient.pirads >= 3 else "SysBx") if is_biopsied(study) else "",
        "case_ISUP": patient.isup,
        "case_csPCa": "YES" if patient.cspca else "NO",
    }


def is_biopsied(study: GeneratedStudy) -> bool:
    """Return whether there is histology of a patient."""
    return study.patient.pirads >= 3 or study.patient.isup > 0


def describe_study(patient_id: str, study_id: str, study: GeneratedStudy) -> dict[str, Any]:
    """Return a study's row of the marksheet; lesion columns are comma lists, blank without biopsy."""
    patient, findings, biopsied = study.patient, study.patient.findings, is_biopsied(study)
    return describe_clinic(study) | {
        "patient_id": patient_id,
        "study_id": study_id,
        "lesion_PIRADS": ",".join(str(finding.pirads) for finding in findings) or patient.pirads,
        "lesion_GS": ",".join(GLEASON[finding.isup] for finding in findings) if biopsied else "",
        "lesion_ISUP": ",".join(str(finding.isup) for finding in findings) if biopsied else "",
        "center": patient.center,
    }
