"""The manifest of generated studies: what a hospital would write of them into its three tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prostafed.client.manifest.rows import TABLES
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import write_table
from prostafed.simulations.phantom.case import GeneratedStudy
from prostafed.simulations.phantom.marksheet import GLEASON, describe_clinic, is_biopsied, list_reads

Rows = list[dict[str, Any]]


def write_manifest(folder: Path, studies: Mapping[tuple[str, str], GeneratedStudy]) -> None:
    """Write the three tables of studies by (patient, study id)."""
    make_folder(folder)
    rows: tuple[Rows, Rows, Rows] = (
        [_describe(*ids, study) for ids, study in studies.items()],
        [row for ids, study in studies.items() for row in _list_lesions(name_case(*ids), study)],
        [row | {"read_type": "research"} for ids, study in studies.items() for row in list_reads("_".join(ids), study)],
    )
    for (name, model), table in zip(TABLES.items(), rows, strict=True):
        write_table(folder / name, tuple(model.model_fields), table)


def name_case(patient: str, study: str) -> str:
    """Return the case_id of the manifest."""
    return f"{patient}_{study}"


def mask_files(case_id: str) -> dict[str, str]:
    """Return the delineations of a case: (name, path relative to the manifest)."""
    return {name: f"masks/{case_id}_{name}.nii.gz" for name in ("gland", "zones", "lesion")}


def _describe(patient_id: str, study_id: str, study: GeneratedStudy) -> dict[str, Any]:
    case_id = name_case(patient_id, study_id)
    masks = mask_files(case_id)
    return describe_clinic(study) | {
        "case_id": case_id,
        "patient_key": f"generated-{patient_id}",
        "dicom_dir": patient_id,
        "label_source": "histology" if is_biopsied(study) else "mri_negative",
        "lesion_mask": masks["lesion"],
        "mask_space": "t2w",
        "mask_coding": "isup",
        "gland_mask": masks["gland"],
        "zones_mask": masks["zones"],
        "zones_coding": "pz1_tz2",
    }


def _list_lesions(case_id: str, study: GeneratedStudy) -> Rows:
    graded = is_biopsied(study)
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
