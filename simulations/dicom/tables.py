"""The manifest of generated studies: what a hospital would write of them into its three tables."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from prostafed.client.manifest.rows import TABLES
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import write_table
from prostafed.simulations.phantom.case import GeneratedStudy
from prostafed.simulations.phantom.marksheet import GLEASON

Rows = list[dict[str, Any]]


def write_manifest(folder: Path, studies: Mapping[tuple[str, str], GeneratedStudy]) -> None:
    """Write the three tables of studies by (patient, study id)."""
    make_folder(folder)
    rows: tuple[Rows, Rows, Rows] = (
        [_describe(*ids, study) for ids, study in studies.items()],
        [row for ids, study in studies.items() for row in _list_lesions(name_case(*ids), study)],
        [row for ids, study in studies.items() for row in _list_reads(name_case(*ids), study)],
    )
    for (name, model), table in zip(TABLES.items(), rows, strict=True):
        write_table(folder / name, tuple(model.model_fields), table)


def name_case(patient: str, study: str) -> str:
    """Return the case_id of the manifest."""
    return f"{patient}_{study}"


def mask_files(case_id: str) -> dict[str, str]:
    """Return the delineations of a case: (name, path relative to the manifest)."""
    return {name: f"masks/{case_id}_{name}.nii.gz" for name in ("gland", "zones", "lesion")}


def scan_day(study: GeneratedStudy) -> date:
    """Return the invented date of the examination."""
    return date(2012, 1, 1) + timedelta(days=derive_seed(study.seed, "date") % 3650)


def _is_biopsied(study: GeneratedStudy) -> bool:
    return study.patient.pirads >= 3 or study.patient.isup > 0


def _describe(patient_id: str, study_id: str, study: GeneratedStudy) -> dict[str, Any]:
    patient, case_id = study.patient, name_case(patient_id, study_id)
    masks = mask_files(case_id)
    biopsied = _is_biopsied(study)
    return {
        "case_id": case_id,
        "patient_key": f"generated-{patient_id}",
        "dicom_dir": patient_id,
        "mri_date": scan_day(study),
        "patient_age": f"{patient.age:.0f}",
        "psa": f"{patient.psa:g}",
        "psad": f"{patient.psa / patient.reported_ml:.2f}",
        "prostate_volume": f"{patient.reported_ml:g}",
        "histopath_type": ("MRBx" if patient.pirads >= 3 else "SysBx") if biopsied else "",
        "case_ISUP": patient.isup,
        "case_csPCa": "YES" if patient.cspca else "NO",
        "label_source": "histology" if biopsied else "mri_negative",
        "lesion_mask": masks["lesion"],
        "mask_space": "t2w",
        "mask_coding": "isup",
        "gland_mask": masks["gland"],
        "zones_mask": masks["zones"],
        "zones_coding": "pz1_tz2",
    }


def _list_lesions(case_id: str, study: GeneratedStudy) -> Rows:
    graded = _is_biopsied(study)
    return [
        {
            "case_id": case_id,
            "lesion_id": str(number),
            "mask_label": finding.isup if finding.isup >= 2 else "",
            "zone": finding.zone,
            "gleason": GLEASON[finding.isup] if graded else "",
            "isup": finding.isup if graded else "",
        }
        for number, finding in enumerate(study.patient.findings, start=1)
    ]


def _list_reads(case_id: str, study: GeneratedStudy) -> Rows:
    return [
        {
            "case_id": case_id,
            "lesion_id": "case",
            "reader_id": f"reader{number}",
            "pirads": score,
            "read_type": "research",
        }
        for number, score in enumerate(study.reads, start=1)
    ]
