"""Label budgets: what a site would reach had only some of its patients been annotated."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.seeding import derive_seed


def choose_labelled(
    records: Sequence[CaseRecord], chosen: Sequence[int], usable: Callable[[CaseRecord], bool], share: float, seed: int
) -> list[int]:
    """Return those of the `chosen` indices that are `usable` and of a `share` in (0, 1] of the patients who have such a
    case.

    Patients are stratified by csPCa (yes, no, unknown), at least one of each there is. A stratum is ordered by the seed
    and the patients' names alone, and a budget takes its beginning: a smaller budget is part of a larger one. Of the
    patients of several sites in one place it takes as many, but others than the sites would each.
    """
    cases: dict[str, list[int]] = defaultdict(list)
    for index in chosen:
        if usable(records[index]):
            cases[records[index].patient_id].append(index)
    strata: dict[bool | None, list[str]] = defaultdict(list)
    for patient in sorted(cases, key=lambda name: derive_seed(seed, "labels", name)):
        labels = {records[index].cspca for index in cases[patient]}
        strata[True if True in labels else False if False in labels else None].append(patient)
    kept = [patient for patients in strata.values() for patient in patients[: max(1, round(share * len(patients)))]]
    return sorted(index for patient in kept for index in cases[patient])
