"""What there is to index: DICOM studies and image files, joined with their rows of the manifest, each as one plan."""

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prostafed.client.findings import Finding, make_finding
from prostafed.client.ingest.assemble import Known, Wanted
from prostafed.client.ingest.masks import MaskFiles
from prostafed.client.ingest.records import DicomStudy
from prostafed.client.ingest.series_map import name_series
from prostafed.client.manifest import Manifest, StudyRow, describe_case, find_mistakes
from prostafed.client.manifest.labels import grade_gleason
from prostafed.client.site.identity import make_pseudonym

FORMAT = 2  # of the index; another one makes every case anew
_SEQUENCES = ("t2w", "adc", "hbv")


@dataclass(frozen=True)
class Plan:
    """One study to make a case of."""

    known: Known
    root: str  # pseudonym of the folder it came from
    fingerprint: str  # of all that the case depends on
    study: DicomStudy | None = None
    files: Mapping[str, Path] = field(default_factory=dict)  # sequence -> image file, where there is no DICOM
    findings: tuple[Finding, ...] = ()  # of the manifest
    opted_out: bool = False
    has_row: bool = True  # in the manifest, which says so
    has_patient_key: bool = True  # a person said who the patient is; else his number in the header does


@dataclass(frozen=True)
class Planning:
    """What plans of a site have in common."""

    secret: bytes
    dicom: Path | None
    manifest: Manifest
    manifest_folder: Path | None
    center: str
    wanted: Wanted


def make_plans(site: Planning, studies: Sequence[DicomStudy], uses: Mapping[str, str]) -> list[Plan]:
    """Return a plan per study, and per row of the manifest without DICOM, by case id."""
    rows = {row.case_id: row for row in site.manifest.studies}
    named = [(row.dicom_dir.replace("\\", "/"), row) for row in site.manifest.studies if row.dicom_dir]
    by_folder = {(site.dicom or Path()) / folder: row for folder, row in named}
    found = [(make_pseudonym(site.secret, "study", study.uid), study) for study in studies]
    rows_of = {case_id: row for case_id, study in found if (row := rows.get(case_id) or _find_row(by_folder, study))}
    shared = Counter(row.case_id for row in rows_of.values())
    plans = [_plan_study(site, case_id, study, rows_of.get(case_id), shared, uses) for case_id, study in found]
    alone = [row for row in site.manifest.studies if row.case_id not in shared and _is_ours(site, row)]
    plans += [_plan_row(site, row) for row in alone]
    unique = {plan.known.case_id: plan for plan in plans}  # a row that is there twice is refused once
    return [unique[case_id] for case_id in sorted(unique)]


def name_root(secret: bytes, folder: Path) -> str:
    """Return the pseudonym of a folder studies come from."""
    return make_pseudonym(secret, "root", str(folder.resolve()))


def _plan_study(
    site: Planning, case_id: str, study: DicomStudy, row: StudyRow | None, shared: Counter[str], uses: Mapping[str, str]
) -> Plan:
    assert site.dicom is not None
    number = make_pseudonym(site.secret, "PatientID", study.patient)
    patient_key = (row and row.patient_key) or number
    known, findings = _know(site, case_id, patient_key, row)
    if row is not None and shared[row.case_id] > 1:
        text = (
            f"expected one study in a row's dicom_dir, found {shared[row.case_id]}; give each its own row and folder."
        )
        findings += (make_finding(case_id, "SEVERAL_STUDIES", text),)
    if known.description.get("age") is None and study.patient_age is not None:
        known = replace(known, description={**known.description, "age": float(study.patient_age)})
    paths = sorted({each.path for series in study.series for each in series.slices})
    names = {name_series(site.secret, series) for series in study.series}
    own_uses = {series: use for series, use in uses.items() if series in names}
    return Plan(
        known,
        name_root(site.secret, site.dicom),
        _fingerprint(site, known, findings, paths, own_uses),
        study=study,
        findings=findings,
        opted_out=row is not None and row.opt_out == 1,
        has_row=row is not None,
        has_patient_key=patient_key != number,
    )


def _plan_row(site: Planning, row: StudyRow) -> Plan:
    files = {name: _locate(site, value) for name in _SEQUENCES if (value := getattr(row, name))}
    # A row without files may be that of a study whose folder is not here today, under the id the study has.
    is_pseudonym = not files and re.fullmatch(r"[0-9a-f]{16}", row.case_id)
    case_id = row.case_id if is_pseudonym else make_pseudonym(site.secret, "case", row.case_id)
    known, findings = _know(site, case_id, row.patient_key or row.case_id, row)
    if not files:
        text = "expected DICOM images in the dicom_dir of its row in studies.csv, or image files, found neither; "
        findings += (make_finding(case_id, "NO_DICOM", f"{text}correct the row, or export the study."),)
    folder = site.manifest_folder or site.dicom
    assert folder is not None  # a row without a manifest's folder
    return Plan(
        known,
        name_root(site.secret, folder),
        _fingerprint(site, known, findings, files.values(), {}),
        files=files,
        findings=findings,
        opted_out=row.opt_out == 1,
    )


def _is_ours(site: Planning, row: StudyRow) -> bool:
    """Return whether a row without a study can be judged: without a DICOM root its folder was not looked into."""
    return bool(row.t2w or row.adc or row.hbv) or site.dicom is not None


def _know(site: Planning, case_id: str, patient_key: str, row: StudyRow | None) -> tuple[Known, tuple[Finding, ...]]:
    patient_id = make_pseudonym(site.secret, "patient", patient_key)
    if row is None:
        return Known(case_id, patient_id, site.center), ()
    description = describe_case(site.manifest, row)
    masks = _describe_masks(site, row)
    return Known(case_id, patient_id, site.center, description, masks), find_mistakes(site.manifest, row, case_id)


def _describe_masks(site: Planning, row: StudyRow) -> MaskFiles | None:
    columns = {"gland": row.gland_mask, "zones": row.zones_mask, "lesion": row.lesion_mask}
    files = {name: _locate(site, value) for name, value in columns.items() if value}
    if not files:
        return None
    isup = {
        lesion.mask_label: lesion.isup if lesion.isup is not None else grade_gleason(lesion.gleason)
        for lesion in site.manifest.lesions
        if lesion.case_id == row.case_id and lesion.mask_label is not None
    }
    return MaskFiles(files, row.mask_space or "t2w", row.mask_coding or "binary", row.zones_coding or "pz1_tz2", isup)


def _locate(site: Planning, value: str) -> Path:
    """Return the file a cell names: in the manifest's folder, else below the DICOM root."""
    folders = [folder for folder in (site.manifest_folder, site.dicom) if folder is not None]
    paths = [folder / value.replace("\\", "/") for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _find_row(by_folder: Mapping[Path, StudyRow], study: DicomStudy) -> StudyRow | None:
    """Return the row whose dicom_dir holds all files of a study; of nested ones the innermost."""
    holding = (folder for folder in (study.folder, *study.folder.parents) if folder in by_folder)
    return by_folder.get(next(holding, Path()))


def _fingerprint(
    site: Planning, known: Known, findings: Iterable[Finding], paths: Iterable[Path], uses: Mapping[str, str]
) -> str:
    """Return a keyed hash over what a case is made from; files count by name, size and time of change."""
    masks = known.masks.files.values() if known.masks else ()
    values: dict[str, Any] = {
        "format": FORMAT,
        "release": version("prostafed"),
        "known": asdict(known),
        "wanted": asdict(site.wanted),
        "findings": [each.text for each in findings],
        "files": [_stamp(path) for path in (*paths, *masks)],
        "uses": sorted(uses.items()),
    }
    text = json.dumps(values, sort_keys=True, default=str)
    return hmac.new(site.secret, text.encode(), hashlib.sha256).hexdigest()


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return str(path), -1, -1
    return str(path), status.st_size, status.st_mtime_ns
