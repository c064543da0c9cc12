"""Different men under one patient number, as an anonymiser leaves them that writes "ANONYMOUS" into every study."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from prostafed.client.findings import Finding, make_finding
from prostafed.client.ingest.records import DicomStudy

MAX_YEARS_APART = 2  # of years of birth told from ages: an age is a whole number, and may be of the year before


def find_shared_numbers(studies: Iterable[DicomStudy]) -> list[list[DicomStudy]]:
    """Return the studies of each patient number whose dates of birth, or ages at their dates, are not of one man."""
    by_number: dict[str, list[DicomStudy]] = defaultdict(list)
    for study in studies:
        by_number[study.patient].append(study)
    return [each for each in by_number.values() if _are_several(each)]


def describe_shared(groups: Sequence[Sequence[DicomStudy]]) -> list[Finding]:
    """Return the finding about `find_shared_numbers`, if there is one; it holds counts, no number and no date."""
    if not groups:
        return []
    studies = sum(len(group) for group in groups)
    numbers = "one patient number" if len(groups) == 1 else f"{len(groups)} patient numbers"
    text = f"expected a patient number for each man, found {studies} studies of different dates of birth or ages that "
    text += f"share {numbers}; they count as one patient until patient_key in studies.csv tells them apart."
    return [make_finding("-", "SHARED_NUMBER", text)]


def _are_several(studies: Sequence[DicomStudy]) -> bool:
    if len({study.birth_date for study in studies} - {""}) > 1:
        return True
    years = [year for study in studies if (year := _find_year_of_birth(study)) is not None]
    return bool(years) and max(years) - min(years) > MAX_YEARS_APART


def _find_year_of_birth(study: DicomStudy) -> int | None:
    if study.birth_date[:4].isdecimal():
        return int(study.birth_date[:4])
    if study.patient_age is None or not study.study_date[:4].isdecimal():
        return None
    return int(study.study_date[:4]) - study.patient_age
