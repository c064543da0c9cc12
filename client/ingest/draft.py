"""A manifest as a hospital first gets it: a line per DICOM study, pre-filled with what the headers say."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from prostafed.client.ingest.patients import find_shared_numbers
from prostafed.client.ingest.records import DicomStudy
from prostafed.client.manifest.rows import STUDIES, create_tables
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import DataError
from prostafed.common.shell.files import is_text, write_text


def init_manifest(folder: Path, studies: Sequence[DicomStudy], root: Path, secret: bytes) -> int:
    """Add a line to `folder`/studies.csv for each study it does not have yet, and return how many were added.

    A line is known by its case_id or its dicom_dir, so that people may rename cases. What they wrote stays as it is, to
    the byte. `root` is the folder dicom_dir is relative to; it stays blank where studies share a folder or its name
    is no UTF-8, and so does patient_key where different men share a patient number.
    """
    create_tables(folder)
    path = folder / STUDIES
    try:
        text = path.read_bytes().decode("utf-8")  # with its byte order mark, if it has one
    except UnicodeDecodeError as error:
        raise DataError(f"{STUDIES} is not UTF-8 text. Save it as 'CSV UTF-8 (comma delimited)'.") from error
    lines = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline="")))
    columns = [name.strip() for name in lines[0]] if lines else []
    if "case_id" not in columns:
        raise DataError(f"{STUDIES}: expected a column case_id in its first line, found none. Add it.")
    # A decimal comma shifts the cells of its line: a case id counts wherever it stands.
    case_ids = {cell.strip() for line in lines for cell in line}
    at = columns.index("dicom_dir") if "dicom_dir" in columns else len(columns)
    folders = {line[at].strip() for line in lines if len(line) > at} - {""}
    new = []
    shared = {study.uid for group in find_shared_numbers(studies) for study in group}
    for study in studies:
        row = describe_study(study, _own_folder(study, studies, root), secret)
        if study.uid in shared:
            row["patient_key"] = ""
        if row["case_id"] not in case_ids and row["dicom_dir"] not in folders:
            new.append(row)
    if new:
        write_text(path, _append(text, columns, new))
    return len(new)


def describe_study(study: DicomStudy, folder: str, secret: bytes) -> dict[str, Any]:
    """Return the cells of studies.csv that a study's headers fill."""
    return {
        "case_id": make_pseudonym(secret, "study", study.uid),
        "patient_key": make_pseudonym(secret, "PatientID", study.patient),
        "dicom_dir": folder,
        "mri_date": _iso_date(study.study_date),
        "patient_age": study.patient_age if study.patient_age and 18 <= study.patient_age <= 110 else "",
    }


def _own_folder(study: DicomStudy, studies: Sequence[DicomStudy], root: Path) -> str:
    """Return the study's folder relative to `root`; "" where another study lies there, too, or no table can name it."""
    shared = any(
        other is not study and (other.folder == study.folder or study.folder in other.folder.parents)
        for other in studies
    )
    if shared or study.folder == root or root not in study.folder.parents:
        return ""
    folder = study.folder.relative_to(root).as_posix()
    return folder if is_text(folder) else ""


def _iso_date(dicom: str) -> str:
    try:
        return datetime.strptime(dicom, "%Y%m%d").date().isoformat()
    except ValueError:
        return ""


def _append(text: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    added = io.StringIO(newline="")
    csv.writer(added, lineterminator=end).writerows([row.get(name, "") for name in columns] for row in rows)
    return text + ("" if text.endswith("\n") else end) + added.getvalue()
