"""A seventh set, as a researcher would add it: a folder per patient, NIfTI files, a table of labels."""

import csv
from pathlib import Path

from prostafed.common.imaging.cases import CaseRecord
from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.study import Selection, StudyFiles, Volumes, read_images, read_masks


def list_files(root: Path) -> tuple[StudyFiles, ...]:
    """Return a study per row of labels.csv: patient, center, cancer (yes or no)."""
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        return tuple(_locate(root / row["patient"], row) for row in csv.DictReader(file))


def _locate(folder: Path, row: dict[str, str]) -> StudyFiles:
    record = CaseRecord(row["patient"], row["patient"], center=row["center"], cspca=row["cancer"] == "yes")
    masks = {"lesion": folder / "lesion.nii.gz"} if record.cspca else {}
    return StudyFiles(record, {name: folder / f"{name}.nii.gz" for name in ("t2w", "adc", "hbv")}, masks)


def _read(study: StudyFiles, selection: Selection) -> Volumes:
    return Volumes(study.record, read_images(study, selection, "unpack seventh.zip again."), read_masks(study))


DATASET = Dataset(
    name="seventh",
    title="Seventh Set of Prostates",
    centers=("North", "South"),
    sequences=("t2w", "adc", "hbv"),
    labels="cancer contours",
    licence="CC BY 4.0",
    size="16 studies, one per patient",
    origin="example.org/seventh.zip",
    tree="labels.csv\n<patient>/{t2w,adc,hbv,lesion}.nii.gz",
    list_files=list_files,
    read=_read,
)
