"""Patient-level splits: no patient is on two sides, and the share of cancers is about the same on each."""

import csv
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import write_text

SPLITS = ("train", "validation", "test")
Splits = dict[str, list[int]]  # split -> indices of its cases


def draw_sides(
    records: Sequence[CaseRecord],
    seed: int,
    validation_fraction: float,
    test_fraction: float,
    uses: Sequence[frozenset[str]],
) -> dict[str, str]:
    """Return the side of each patient; `uses` are the tasks that can judge each record.

    Patients of whom some task can be judged are split, stratified by csPCa (yes, no, unknown) and by these tasks. The
    test split holds a patient of every task that has two or more, the training split one in any case, and all of whom
    no task can be judged, who change no other's side.
    """
    positions: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        positions[record.patient_id].append(index)
    tasks = {patient: frozenset[str]().union(*(uses[i] for i in found)) for patient, found in positions.items()}
    patients = sorted(positions, key=lambda name: derive_seed(seed, "split", name))
    labelled = [patient for patient in patients if tasks[patient]]
    side_of = dict.fromkeys(patients, "train")
    truth = {p: {records[index].cspca for index in positions[p]} for p in labelled}
    for label in (True, False, None):
        alike = [p for p in labelled if next(each for each in (True, False, None) if each in truth[p]) is label]
        side_of |= _cut(sorted(alike, key=lambda p: sorted(tasks[p])), tasks, validation_fraction, test_fraction)
    for task in sorted(frozenset[str]().union(*tasks.values())):
        of_task = [patient for patient in labelled if task in tasks[patient]]
        if len(of_task) > 1 and not any(side_of[patient] == "test" for patient in of_task):
            side_of[of_task[0]] = "test"
    if "train" not in side_of.values():
        side_of[patients[-1]] = "train"
    return side_of


def assign_cases(
    records: Sequence[CaseRecord], side_of: Mapping[str, str], uses: Sequence[frozenset[str]], judging: frozenset[str]
) -> Splits:
    """Return the indices of each split; `judging` are the tasks it is for.

    Patients of whom none of these can be judged are trained on after all. So what is held out for some tasks is held
    out wherever more are judged.
    """
    judged = {record.patient_id for record, tasks in zip(records, uses, strict=True) if tasks & judging}
    splits: Splits = {split: [] for split in SPLITS}
    for index, record in enumerate(records):
        splits[side_of[record.patient_id] if record.patient_id in judged else "train"].append(index)
    return splits


def _cut(
    patients: Sequence[str], tasks: Mapping[str, frozenset[str]], validation_fraction: float, test_fraction: float
) -> dict[str, str]:
    """Return the sides of patients of one label, who stand one after the other by the tasks that can judge them.

    Fractions are of all of them, so that many small groups lose nobody to rounding.
    """
    side_of: dict[str, str] = {}
    seen = 0
    for _, group in groupby(patients, key=tasks.__getitem__):
        members = list(group)
        test, validation = (
            round(fraction * (seen + len(members))) - round(fraction * seen)
            for fraction in (test_fraction, validation_fraction)
        )
        sides = ["test"] * test + ["validation"] * validation
        side_of |= dict(zip(members, sides + ["train"] * len(members), strict=False))
        seen += len(members)
    return side_of


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
