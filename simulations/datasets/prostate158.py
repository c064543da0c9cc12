"""Prostate158 (Adams et al. 2022, 10.1016/j.compbiomed.2022.105817): 158 studies of Charité Berlin, one per patient.

    root/ (or prostate158_train/ and prostate158_test/ in it, or folders in those)
      train.csv, valid.csv, test.csv       ID, then the files of each study, relative to the table
      train/NNN/, test/NNN/
        t2.nii.gz, adc.nii.gz, dwi.nii.gz  dwi is the high-b image; all on the grid of the t2
        t2_anatomy_reader1[,2].nii.gz      1 = TZ (central gland), 2 = PZ: the reverse of every other set
        adc_tumor_reader1[,2].nii.gz, t2_tumor_reader1.nii.gz     cancer where > 0 (1, or 3 on the T2)
        empty.nii.gz                       named in the table where a reader saw no cancer

The first reader's contours are used: on the ADC, where that cell is blank on the T2. A blank cell says nothing, an
empty mask says no cancer. No grade is published: a contour is cancer that histology confirmed in a lesion of PI-RADS 4
or 5, and counts as csPCa here. No reader's PI-RADS score is published either. The licence is on the set's page.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydantic import Field

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.shell.tables import Row, raise_mistakes, read_table
from prostafed.simulations.datasets import stop
from prostafed.simulations.datasets.study import (
    Case,
    StudyFiles,
    Volumes,
    add_gland,
    check_sequences,
    choose_centers,
    import_studies,
    read_images,
    read_masks,
)

SEQUENCES = {
    "t2w": "acquired",
    "adc": "map as distributed, resampled to the T2, b-values not told",
    "hbv": "as distributed, resampled to the T2, b-value not told",
}
_COLUMNS = {"t2w": "t2", "adc": "adc", "hbv": "dwi"}
_TABLES = ("train.csv", "valid.csv", "test.csv")
_PATH = r"^([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$"  # relative, no step up
_ADVICE = "unpack prostate158_train.zip (or prostate158_test.zip) again."


class Prostate158Row(Row):
    """A study in train.csv, valid.csv or test.csv."""

    ID: int = Field(ge=1, le=999, description="the number of the study")
    t2: str = Field(pattern=_PATH, description="a relative path")
    adc: str | None = Field(None, pattern=_PATH, description="a relative path")
    dwi: str | None = Field(None, pattern=_PATH, description="a relative path")
    t2_anatomy_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")
    t2_tumor_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")
    adc_tumor_reader1: str | None = Field(None, pattern=_PATH, description="a relative path")


def import_prostate158(
    root: Path,
    grid: Grid,
    sequences: tuple[str, ...],
    centers: tuple[str, ...] = (),
    on_error: Callable[[DataError], None] = stop,
    allow_missing: tuple[str, ...] = (),
) -> Iterator[Case]:
    """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of each study, by case id."""
    check_sequences("Prostate158", SEQUENCES, sequences, allow_missing)
    studies = choose_centers(list_files(root), centers, "Prostate158")

    def read(study: StudyFiles) -> Volumes:
        images = read_images(study, root, sequences, allow_missing, _ADVICE)
        masks = add_gland(read_masks(study), study.record.case_id, {1: 2, 2: 1})
        record = study.record
        if "lesion" in masks:
            masks["lesion"] = masks["lesion"] > 0
            record = replace(record, cspca=bool(np.any(sitk.GetArrayViewFromImage(masks["lesion"]))))
        return Volumes(record, images, masks, SEQUENCES)

    return import_studies(studies, read, grid, sequences, on_error, allow_missing)


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return the studies of the tables; raises DataError for a missing or wrong table, a study twice, a lost mask."""
    tables = [path for name in _TABLES for path in _find_tables(root, name)]
    names = {path.name for path in tables}
    if "train.csv" not in names:
        raise DataError(
            f"{root}: expected train.csv (and valid.csv, test.csv) in it or in prostate158_train/, found none. Unpack "
            "prostate158_train.zip of doi.org/10.5281/zenodo.6481141 there."
        )
    studies: dict[str, StudyFiles] = {}
    mistakes: list[object] = []
    for path in tables:
        table = read_table(path, Prostate158Row, others=True)
        mistakes += table.mistakes
        for line, row in table.rows:
            study = _locate(root, path.parent, row)
            case_id = study.record.case_id
            if case_id in studies:
                mistakes.append(f"{path.name}: line {line}: expected every study once, found {case_id} again.")
            mistakes += [
                f"{path.name}: line {line}: expected the file {mask.relative_to(root)}, found none; {_ADVICE}"
                for mask in study.masks.values()
                if not mask.is_file()
            ]
            studies[case_id] = study
    raise_mistakes(mistakes)
    return tuple(studies[case_id] for case_id in sorted(studies))


def _find_tables(root: Path, name: str) -> list[Path]:
    found = sorted({path for depth in ("", "*/", "*/*/") for path in root.glob(depth + name)})
    if len(found) > 1:
        places = ", ".join(str(path.relative_to(root)) for path in found)
        raise DataError(f"{root}: expected {name} once, found {places}. Keep the one to use.")
    return found


def _locate(root: Path, folder: Path, row: Prostate158Row) -> StudyFiles:
    def resolve(cell: str) -> Path:
        beside = folder / cell
        return root / cell if not beside.is_file() and (root / cell).is_file() else beside

    case_id = f"{row.ID:03d}"
    cells = {"zones": row.t2_anatomy_reader1, "lesion": row.adc_tumor_reader1 or row.t2_tumor_reader1}
    return StudyFiles(
        CaseRecord(case_id, case_id, center="Charite", source="prostate158"),
        {name: resolve(cell) for name, column in _COLUMNS.items() if (cell := getattr(row, column))},
        {name: resolve(cell) for name, cell in cells.items() if cell},
    )
