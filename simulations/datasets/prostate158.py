"""Prostate158 (Adams et al. 2022, 10.1016/j.compbiomed.2022.105817): 158 studies of Charité Berlin, one per patient.

What lies where is told by `tree` below; tables may lie up to two folders deep. dwi is the high-b image; all are on the
grid of the t2. The anatomy is 1 = TZ (central gland), 2 = PZ: the reverse of every other set. Cancer is where a tumour
mask is > 0. The first reader's contours are used: on the ADC, where that cell is blank on the T2. A blank cell says
nothing; an empty mask (empty.nii.gz) says no cancer. No grade is published: a contour is cancer that histology
confirmed in a lesion of PI-RADS 4 or 5, and counts as csPCa here. No reader's PI-RADS score is published.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from prostafed.client.manifest.imports import Prostate158Row
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.shell.tables import raise_mistakes, read_table
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, add_gland, read_images, read_masks

SEQUENCES = {
    "t2w": "acquired",
    "adc": "map as distributed, resampled to the T2, b-values not told",
    "hbv": "as distributed, resampled to the T2, b-value not told",
}
_COLUMNS = {"t2w": "t2", "adc": "adc", "hbv": "dwi"}
_TABLES = ("train.csv", "valid.csv", "test.csv")
_ADVICE = "unpack prostate158_train.zip (or prostate158_test.zip) again."


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


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    record, images = study.record, read_images(study, selection, _ADVICE)
    masks = add_gland(read_masks(study), record.case_id, {1: 2, 2: 1})
    if "lesion" in masks:
        masks["lesion"] = masks["lesion"] > 0
        record = replace(record, cspca=bool(np.any(sitk.GetArrayViewFromImage(masks["lesion"]))))
    return Volumes(record, images, masks, SEQUENCES)


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

    case_id = row.ID.zfill(3)
    cells = {"zones": row.t2_anatomy_reader1, "lesion": row.adc_tumor_reader1 or row.t2_tumor_reader1}
    return StudyFiles(
        CaseRecord(case_id, case_id, center="Charite"),
        {name: resolve(cell) for name, column in _COLUMNS.items() if (cell := getattr(row, column))},
        {name: resolve(cell) for name, cell in cells.items() if cell},
    )


DATASET = Dataset(
    name="prostate158",
    title="Prostate158",
    centers=("Charite",),
    sequences=tuple(SEQUENCES),
    labels="cancer contours, zones",
    licence="see its page",
    size="158 studies, one per patient: 139 for training and validation, 19 for testing",
    origin="doi.org/10.5281/zenodo.6481141 (training), doi.org/10.5281/zenodo.6592345 (testing)",
    tree="""prostate158_train/{train.csv,valid.csv}    or train.csv and valid.csv in root itself
prostate158_train/train/NNN/{t2,adc,dwi,t2_anatomy_reader1,t2_tumor_reader1,adc_tumor_reader1,empty}.nii.gz
prostate158_test/test.csv                optional; paths in the tables are relative to them
prostate158_test/test/NNN/...            as above, and of a second reader""",
    list_files=list_files,
    read=_read,
)
