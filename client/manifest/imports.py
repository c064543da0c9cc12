"""The tables of public sets -> a manifest: PI-CAI's marksheet, and the CSV files of Prostate158."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from prostafed.client.manifest.rows import TABLES, Date
from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import Mistake, Row, raise_mistakes, read_table, write_table

READER = "report"  # the one read of a clinical report
_PATH = r"^([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$"  # relative, no step up


class MarksheetRow(Row):
    """A line of PI-CAI's marksheet.csv; its columns lesion_* are lists separated by commas."""

    patient_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,15}$", description="1 to 15 letters, digits, _ or -")
    study_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,15}$", description="1 to 15 letters, digits, _ or -")
    mri_date: Date | None = Field(None, description="YYYY-MM-DD")
    patient_age: float | None = Field(None, ge=18, le=110, description="years")
    psa: float | None = Field(None, ge=0, le=5000, description="ng/ml with a decimal point")
    psad: float | None = Field(None, ge=0, le=500, description="ng/ml/ml with a decimal point")
    prostate_volume: float | None = Field(None, ge=1, le=500, description="ml with a decimal point")
    histopath_type: Literal["SysBx", "MRBx", "SysBx+MRBx", "RP"] | None = Field(None, description="kind of sample")
    lesion_PIRADS: str | None = Field(  # noqa: N815
        None, pattern=r"^([1-5]|N/A)(, ?([1-5]|N/A))*$", description="scores 1 to 5 or N/A, separated by commas"
    )
    lesion_GS: str | None = Field(  # noqa: N815
        None, pattern=r"^(\d\+\d|N/A)(, ?(\d\+\d|N/A))*$", description="Gleason scores or N/A, separated by commas"
    )
    lesion_ISUP: str | None = Field(  # noqa: N815
        None, pattern=r"^([0-5]|N/A)(, ?([0-5]|N/A))*$", description="grades 0 to 5, separated by commas"
    )
    case_ISUP: int | None = Field(None, ge=0, le=5, description="ISUP grade")  # noqa: N815
    case_csPCa: Literal["YES", "NO"] | None = Field(None, description="ISUP >= 2")  # noqa: N815


class Prostate158Row(Row):
    """A line of Prostate158's train.csv, valid.csv or test.csv; paths are relative to the folder of the set."""

    ID: str = Field(pattern=r"^0{0,2}[1-9][0-9]{0,2}$", description="the number of the study, 1 to 999")
    t2: str = Field(pattern=_PATH, description="a relative path")
    adc: str | None = Field(None, pattern=_PATH, description="a relative path")
    dwi: str | None = Field(None, pattern=_PATH, description="a relative path")
    t2_anatomy_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")
    t2_tumor_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")
    adc_tumor_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")


@dataclass(frozen=True)
class Tables:
    """Cells of the three tables, by column."""

    studies: tuple[Mapping[str, Any], ...]
    lesions: tuple[Mapping[str, Any], ...] = ()
    reads: tuple[Mapping[str, Any], ...] = ()


def import_marksheet(source: Path) -> Tables:
    """Return PI-CAI's marksheet.csv as manifest tables; image paths are those of the published layout.

    `lesion_ISUP` leaves out the lesions whose `lesion_GS` is N/A: it is aligned to the others. A lesion whose PI-RADS
    is N/A has no read. Raises DataError, a line per mistake.
    """
    table = read_table(source, MarksheetRow, others=True)
    mistakes: list[object] = list(table.mistakes)
    studies, lesions, reads = [], [], []
    for line, row in table.rows:
        case_id = f"{row.patient_id}_{row.study_id}"
        scores, gleasons = _split(row.lesion_PIRADS), _split(row.lesion_GS)
        isups = align_isup(gleasons, _split(row.lesion_ISUP))
        if isups is None:
            found = f"{len(_split(row.lesion_ISUP))} for {sum(each != 'N/A' for each in gleasons)} Gleason scores"
            where = (source.name, line, "lesion_ISUP", row.patient_id)
            mistakes.append(Mistake(*where, "a grade per Gleason score that is not N/A", found))
            continue
        kept = row.model_dump(exclude={"patient_id", "study_id", "lesion_PIRADS", "lesion_GS", "lesion_ISUP"})
        images = {name: f"images/{row.patient_id}/{case_id}_{name}.mha" for name in ("t2w", "adc", "hbv")}
        source_of_label = {"label_source": "histology" if row.histopath_type else "mri_negative"}
        studies.append({"case_id": case_id, "patient_key": row.patient_id, **images, **kept, **source_of_label})
        for number, (gleason, isup) in enumerate(zip(gleasons, isups, strict=True), start=1):
            cells = {"gleason": None if gleason == "N/A" else gleason, "isup": isup}
            lesions.append({"case_id": case_id, "lesion_id": str(number), **cells})
        for number, score in enumerate(scores, start=1):
            if score != "N/A":
                lesion = str(number) if gleasons or len(scores) > 1 else "case"
                cells = {"reader_id": READER, "pirads": int(score), "read_type": "clinical"}
                reads.append({"case_id": case_id, "lesion_id": lesion, **cells})
    raise_mistakes(mistakes)
    return Tables(tuple(studies), tuple(lesions), tuple(reads))


def align_isup(gleasons: list[str], isups: list[str]) -> list[int | None] | None:
    """Return an ISUP grade or None per lesion; None where grades and Gleason scores do not pair."""
    graded = [gleason != "N/A" for gleason in gleasons]
    if len(isups) == len(gleasons):
        return [None if isup == "N/A" else int(isup) for isup in isups]
    if sum(graded) != len(isups):
        return None
    grades = iter(isups)
    return [int(next(grades)) if each else None for each in graded]


def import_prostate158(source: Path) -> Tables:
    """Return Prostate158's CSV files, in the folder `source` or one of them, as manifest tables.

    Zones are 1 = transition, 2 = peripheral. The set grades no lesion, so csPCa stays unknown. Raises DataError.
    """
    files = [source] if source.is_file() else [source / f"{name}.csv" for name in ("train", "valid", "test")]
    files = [path for path in files if path.is_file()]
    if not files:
        raise DataError(f"{source}: expected train.csv, valid.csv or test.csv of Prostate158, found none of them.")
    studies: list[dict[str, Any]] = []
    mistakes: list[Mistake] = []
    for path in files:
        table = read_table(path, Prostate158Row, others=True)
        mistakes += table.mistakes
        studies += [_from_prostate158(row, path.stem) for _, row in table.rows]
    raise_mistakes(mistakes)
    return Tables(tuple(studies))


FORMATS: dict[str, Callable[[Path], Tables]] = {"picai": import_marksheet, "prostate158": import_prostate158}


def write_tables(folder: Path, tables: Tables) -> None:
    """Write a manifest into `folder`; raises ConfigurationError where it holds studies already."""
    make_folder(folder)
    for name in TABLES:
        path = folder / name
        if path.exists() and len(path.read_bytes().splitlines()) > 1:
            raise ConfigurationError(f"{path} has lines already, which are not overwritten. Import into a new folder.")
    parts = (tables.studies, tables.lesions, tables.reads)
    for (name, model), rows in zip(TABLES.items(), parts, strict=True):
        cells = ({key: f"{cell:g}" if isinstance(cell, float) else cell for key, cell in row.items()} for row in rows)
        write_table(folder / name, tuple(model.model_fields), cells)


def _from_prostate158(row: Prostate158Row, table: str) -> dict[str, Any]:
    split = {"train": "train", "valid": "validation", "test": "test"}.get(table)
    cells: dict[str, Any] = {"case_id": row.ID, "patient_key": row.ID, "split": split}
    cells |= {"t2w": row.t2, "adc": row.adc, "hbv": row.dwi}
    if row.t2_anatomy_reader1:
        cells |= {"zones_mask": row.t2_anatomy_reader1, "zones_coding": "tz1_pz2", "mask_space": "t2w"}
    if row.adc_tumor_reader1:
        # Drawn on the ADC map; the set resamples all its images of a study to one grid.
        cells |= {"lesion_mask": row.adc_tumor_reader1, "mask_coding": "binary", "mask_space": "t2w"}
    return cells


def _split(text: str | None) -> list[str]:
    return re.split(r", ?", text) if text else []
