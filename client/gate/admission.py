"""The gate before training: a site enters a study with the cases that fit it, and with no others."""

from collections.abc import Sequence
from dataclasses import replace

from prostafed.common.errors import CohortError, DataError
from prostafed.common.imaging.case_folder import CaseFolder
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.study import Data


def admit_cases(cases: CaseFolder, data: Data) -> CaseFolder:
    """Return those of a site's cases that have every sequence the study does not allow to be missing.

    Raises DataError where the folder lies on another grid, or where no case is left.
    """
    wanted = Grid(data.spacing_mm, data.size)
    if (cases.grid, cases.sequences) != (wanted, data.sequences):
        raise DataError(
            f"The cases in {cases.folder} lie on {cases.grid} with {', '.join(cases.sequences)}; the study wants "
            f"{wanted} with {', '.join(data.sequences)}. Index them again for this study: prostafed-site index --study "
            "STUDY.toml."
        )
    needed = set(data.sequences) - set(data.allow_missing)
    admitted = tuple(record for record in cases.records if needed <= set(record.sequences))
    if not admitted:
        lacking = sorted({name for record in cases.records for name in needed - set(record.sequences)})
        raise DataError(
            f"None of the {len(cases.records)} cases in {cases.folder} has all of {', '.join(sorted(needed))}: "
            f"{', '.join(lacking)} is missing. Index studies that have it, or allow it to be missing: "
            f"allow_missing in the study's [data]."
        )
    return replace(cases, records=admitted)


def require_cohort(chosen: Sequence[CaseRecord], minimum: int) -> None:
    """Raise CohortError where a stage would train on fewer than `minimum` patients: among few, each shows."""
    if problem := find_few(count_patients(chosen), minimum):
        raise CohortError(f"{problem} Nothing was trained.")


def find_few(patients: int, minimum: int) -> str:
    """Return why a stage with so many training patients is declined, as a sentence; "" where it is not."""
    if patients >= minimum:
        return ""
    return (
        f"Expected at least {minimum} training patients, minimum_cohort of the site file, found {patients}. Index more "
        "studies, or lower minimum_cohort where your data protection officer agrees."
    )


def count_patients(records: Sequence[CaseRecord]) -> int:
    """Return of how many patients cases are."""
    return len({record.patient_id for record in records})
