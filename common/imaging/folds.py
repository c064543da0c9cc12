"""Patient-level splits: no patient is on two sides, and the share of cancers is about the same on each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.seeding import derive_seed

Split = Literal["train", "validation", "test"]


def split_cases(
    records: Sequence[CaseRecord], seed: int, validation_fraction: float, test_fraction: float
) -> dict[Split, list[int]]:
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

    sides: dict[Split, list[str]] = {"train": [], "validation": [], "test": []}
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
    return {side: sorted(index for patient in patients for index in positions[patient]) for side, patients in sides.items()}
