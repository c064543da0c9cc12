"""Counts a site may tell: by hand, small ones hidden, nothing that is not on the list."""

import pytest

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.metrics.cohort import COHORT_KEYS, SCANNER_KEYS, count_cohort, measure_shift


def make(number: int, **known: object) -> CaseRecord:
    return CaseRecord(f"c{number}", f"p{number}", **known)


def test_cases_are_counted_by_value() -> None:
    records = [
        make(1, cspca=True, age=54.9, psa=4.0, pirads_reads=(4, 5, 5), prostate_volume=80.0, sequences={"adc": "x"}),
        make(2, cspca=False, age=55.0, psa=3.9, sequences={"adc": "x", "hbv": "y"}),
        make(3),
    ]
    told = count_cohort(records, minimum=1)
    assert {key for key, count in told.items() if count} == {
        *("csPCa/yes", "csPCa/no", "csPCa/unknown", "PI-RADS/5", "PI-RADS/unknown", "age/under 55", "age/55 to 64"),
        *("age/unknown", "PSA/4 to 10", "PSA/under 4", "PSA/unknown", "prostate volume/80 and over"),
        *("prostate volume/unknown", "ADC/there", "ADC/missing", "high b/there", "high b/missing"),
    }
    assert told["prostate volume/unknown"] == 2.0
    assert set(told) == COHORT_KEYS - set(SCANNER_KEYS)


def test_small_counts_and_what_would_give_them_away_are_not_told() -> None:
    records = [make(number, cspca=number < 3) for number in range(40)]
    told = count_cohort(records, minimum=10)
    assert not {"csPCa/yes", "csPCa/no"} & set(told), "37 without and 40 in all would tell of 3 with"
    assert all(count == 0 or count >= 10 for count in told.values())


def test_shift_by_hand() -> None:
    first = {"csPCa/yes": 30.0, "csPCa/no": 70.0, "csPCa/unknown": 5.0, "ADC/there": 100.0, "ADC/missing": 0.0}
    second = {"csPCa/yes": 10.0, "csPCa/no": 10.0, "ADC/there": 20.0, "ADC/missing": 0.0, "age/under 55": 20.0}
    assert measure_shift(first, second) == {"csPCa": pytest.approx(0.2), "ADC": 0.0}
    assert measure_shift(first, {"csPCa/yes": 10.0}) == {}, "a hidden value: nothing is said"


def test_what_is_hidden_is_not_the_known_ones_less_a_count() -> None:
    """How many have a known diagnosis follows from the cases of the splits: 60, less 57 without, are 3 with csPCa."""
    records = [make(number, cspca=number < 3 if number < 60 else None) for number in range(68)]
    assert not {"csPCa/yes", "csPCa/no", "csPCa/unknown"} & set(count_cohort(records, minimum=10))
