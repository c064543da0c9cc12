"""Patient-level splits: no patient is on two sides, and the share of cancers is about the same on each."""

import csv
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.files import write_text
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.seeding import derive_seed

SPLITS = ("train", "validation", "test")
Splits = dict[str, list[int]]  # split -> indices of its cases


def split_cases(records: Sequence[CaseRecord], seed: int, validation_fraction: float, test_fraction: float) -> Splits:
    """Return the indices of each split. A patient's side depends on the seed and the patients of the same label only.

    Patients are stratified by csPCa (yes, no, unknown). With two or more patients the training and test splits hold at
    least one each; with one patient it is a training patient.
    """
    positions: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        positions[record.patient_id].append(index)
    strata: dict[bool | None, list[str]] = defaultdict(list)
    for patient in sorted(positions, key=lambda name: derive_seed(seed, "split", name)):
        labels = {records[index].cspca for index in positions[patient]}
        strata[True if True in labels else False if False in labels else None].append(patient)

    sides: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for label in (True, False, None):
        patients = strata[label]
        test = round(test_fraction * len(patients))
        validation = round(validation_fraction * len(patients))
        sides["test"] += patients[:test]
        sides["validation"] += patients[test : test + validation]
        sides["train"] += patients[test + validation :]
    for needy in (sides["test"], sides["train"]):
        if not needy and len(positions) > 1:
            needy.append(max(sides.values(), key=len).pop())
    return {
        side: sorted(index for patient in patients for index in positions[patient]) for side, patients in sides.items()
    }


def write_splits(path: Path, records: Sequence[CaseRecord], splits: Splits) -> None:
    """Write splits as CSV: case_id, split."""
    lines = [f"{records[index].case_id},{split}\n" for split in SPLITS for index in splits[split]]
    write_text(path, "case_id,split\n" + "".join(lines))


def read_splits(path: Path, records: Sequence[CaseRecord], ignored: Collection[str] = ()) -> Splits:
    """Return the splits a CSV (case_id, split) gives; raises DataError for an unknown case or split, or a patient on
    two sides.

    Cases the file does not name are in no split; rows of the `ignored` case ids are passed over.
    """
    positions = {record.case_id: index for index, record in enumerate(records)}
    splits: Splits = {split: [] for split in SPLITS}
    side_of: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            case_id, split = row.get("case_id") or "", row.get("split") or ""
            if case_id in ignored:
                continue
            if case_id not in positions or split not in SPLITS:
                raise DataError(
                    f"{path}, line {line}: expected a case of the site and one of {', '.join(SPLITS)}, "
                    f"found '{case_id}', '{split}'."
                )
            patient = records[positions[case_id]].patient_id
            if side_of.setdefault(patient, split) != split:
                raise DataError(
                    f"{path}, line {line}: the patient of case '{case_id}' is in two splits. Keep each patient in one."
                )
            splits[split].append(positions[case_id])
    return {split: sorted(indices) for split, indices in splits.items()}
