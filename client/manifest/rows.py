"""The columns of studies.csv, lesions.csv and reads.csv; what each may hold is said here and nowhere else.

Names are those of PI-CAI's marksheet where it has the column.
"""

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from prostafed.common.shell.files import make_folder
from prostafed.common.shell.tables import Row, write_table

STUDIES, LESIONS, READS = "studies.csv", "lesions.csv", "reads.csv"

_ID = r"^[A-Za-z0-9_-]{1,32}$"


def _inside(text: str) -> str:
    """Return a path that stays below the folder it is relative to; raises ValueError for another."""
    parts = re.split(r"[/\\]", text)
    if text.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", text) or ".." in parts:
        raise ValueError
    return text


def _iso_date(text: object) -> object:
    """Return the text; raises ValueError where it is not written YYYY-MM-DD (pydantic would take seconds, too)."""
    if isinstance(text, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError
    return text


def _flag(what: str) -> Any:
    return Field(None, ge=0, le=1, description=f"1 if {what}, else 0")


RelativePath = Annotated[str, AfterValidator(_inside)]
Date = Annotated[date, BeforeValidator(_iso_date)]


def _path(what: str) -> Any:
    return Field(None, description=f"{what}: a path relative to the folder of the data, without ..")


class StudyRow(Row):
    """A study: where its images are and what is known of it."""

    case_id: str = Field(pattern=_ID, description="a name of the study of 1 to 32 letters, digits, _ or -")
    patient_key: str | None = Field(
        None, pattern=_ID, description="a pseudonym of 1 to 32 letters, digits, _ or -, never a hospital's number"
    )
    dicom_dir: RelativePath | None = _path("folder of its DICOM files")
    t2w: RelativePath | None = _path("T2W image file")
    adc: RelativePath | None = _path("ADC image file")
    hbv: RelativePath | None = _path("high-b image file")
    mri_date: Date | None = Field(None, description="date of the examination, YYYY-MM-DD")  # never leaves
    patient_age: float | None = Field(None, ge=18, le=110, description="age in years")
    psa: float | None = Field(None, ge=0, le=5000, description="PSA in ng/ml with a decimal point")
    psad: float | None = Field(None, ge=0, le=500, description="PSA density in ng/ml/ml with a decimal point")
    prostate_volume: float | None = Field(None, ge=1, le=500, description="volume in ml with a decimal point")
    histopath_type: Literal["SysBx", "MRBx", "SysBx+MRBx", "RP"] | None = Field(None, description="kind of sample")
    case_ISUP: int | None = Field(None, ge=0, le=5, description="highest ISUP grade of the study")  # noqa: N815
    case_csPCa: Literal["YES", "NO"] | None = Field(  # noqa: N815
        None, description="clinically significant cancer (ISUP >= 2)"
    )
    label_source: Literal["histology", "mri_negative", "ai"] | None = Field(None, description="what the label rests on")
    lesion_mask: RelativePath | None = _path("mask of the lesions")
    mask_space: Literal["t2w", "adc", "dwi"] | None = Field(None, description="image the masks were drawn on")
    mask_coding: Literal["binary", "isup"] | None = Field(None, description="what the values of the lesion mask mean")
    gland_mask: RelativePath | None = _path("mask of the whole gland")
    zones_mask: RelativePath | None = _path("mask of the zones")
    zones_coding: Literal["pz1_tz2", "tz1_pz2"] | None = Field(None, description="which zone has which value")
    prior_treatment: int | None = _flag("the prostate was treated before")
    endorectal_coil: int | None = _flag("an endorectal coil was used")
    opt_out: int | None = _flag("the patient objects to the use of the data")
    split: Literal["train", "validation", "test"] | None = Field(None, description="the side the study is on")


class LesionRow(Row):
    """A lesion of a study."""

    case_id: str = Field(pattern=_ID, description="a study of studies.csv")
    lesion_id: str = Field(pattern=_ID, description="a name of the lesion of 1 to 32 letters, digits, _ or -")
    mask_label: int | None = Field(None, ge=1, le=255, description="its value in the lesion mask")
    zone: Literal["PZ", "TZ", "CZ", "AFS"] | None = Field(None, description="zone")
    gleason: str | None = Field(
        None, pattern=r"^(0\+0|[1-5]\+[1-5])$", description="Gleason score such as 3+4, or 0+0 for a benign sample"
    )
    isup: int | None = Field(None, ge=0, le=5, description="ISUP grade")


class ReadRow(Row):
    """What one reader said of a lesion, or of the whole study."""

    case_id: str = Field(pattern=_ID, description="a study of studies.csv")
    lesion_id: str = Field("case", pattern=_ID, description="a lesion, or the word case for the whole study")
    reader_id: str = Field(pattern=_ID, description="a pseudonym of the reader of 1 to 32 letters, digits, _ or -")
    pirads: int = Field(ge=1, le=5, description="PI-RADS score")
    t2_score: int | None = Field(None, ge=1, le=5, description="T2W score")
    dwi_score: int | None = Field(None, ge=1, le=5, description="DWI score")
    dce: int | None = _flag("contrast enhancement is positive")
    pirads_version: Literal["1", "2", "2.1"] | None = Field(None, description="version of PI-RADS")
    read_type: Literal["clinical", "research", "consensus"] | None = Field(None, description="what it was read for")


TABLES: dict[str, type[Row]] = {STUDIES: StudyRow, LESIONS: LesionRow, READS: ReadRow}


def create_tables(folder: Path) -> None:
    """Write those of the three tables that are missing in `folder`, with their columns and no line."""
    make_folder(folder)
    for name, model in TABLES.items():
        if not (folder / name).exists():
            write_table(folder / name, tuple(model.model_fields), ())
