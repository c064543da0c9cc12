"""Label budgets: shares of patients, nested, stratified, never a patient in part."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.label_share import choose_labelled

SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)


def make(positive: int, negative: int, unknown: int = 0) -> list[CaseRecord]:
    labels = [True] * positive + [False] * negative + [None] * unknown
    return [CaseRecord(f"c{i}", f"p{i}", cspca=label) for i, label in enumerate(labels)]


def count(records: list[CaseRecord], chosen: list[int]) -> tuple[int, int]:
    return sum(records[i].cspca is True for i in chosen), sum(records[i].cspca is False for i in chosen)


def anyone(record: CaseRecord) -> bool:
    return True


def labelled(record: CaseRecord) -> bool:
    return record.cspca is not None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.01, (1, 1)), (0.05, (2, 3)), (0.1, (4, 6)), (0.5, (20, 30)), (1.0, (40, 60))]
)
def test_the_share_holds_in_each_stratum(share: float, expected: tuple[int, int]) -> None:
    records = make(40, 60, unknown=9)
    assert count(records, choose_labelled(records, range(109), labelled, share, seed=1)) == expected


@given(positive=st.integers(0, 30), negative=st.integers(0, 30), unknown=st.integers(0, 5), seed=st.integers(0, 1000))
def test_budgets_are_nested_and_keep_one_of_each_kind(positive: int, negative: int, unknown: int, seed: int) -> None:
    records = make(positive, negative, unknown)
    budgets = [choose_labelled(records, range(len(records)), anyone, share, seed) for share in SHARES]
    for smaller, larger in pairwise(budgets):
        assert set(smaller) <= set(larger)
    assert budgets[-1] == list(range(len(records)))
    for budget in budgets:
        assert {records[i].cspca for i in budget} == {record.cspca for record in records}


def test_a_patient_is_labelled_with_all_cases_or_none() -> None:
    records = [CaseRecord(f"c{i}", f"p{i // 3}", cspca=i % 3 == 0 and i < 30) for i in range(60)]
    chosen = choose_labelled(records, range(60), anyone, 0.5, seed=3)
    assert len(chosen) == 30
    assert all(len([i for i in chosen if i // 3 == patient]) in (0, 3) for patient in range(20))
    assert sum(i < 30 for i in chosen) == 15, "a patient with one positive case is a positive patient"


def test_only_chosen_cases_with_their_truth_count() -> None:
    records = make(10, 10, unknown=10)
    assert choose_labelled(records, range(5, 30), labelled, 1.0, seed=0) == list(range(5, 20))
    assert choose_labelled(records, [], labelled, 0.1, seed=0) == []
    assert choose_labelled(records, range(20, 30), labelled, 0.1, seed=0) == []


def test_it_follows_the_seed_and_the_names_not_their_order() -> None:
    records = make(40, 40)
    first = choose_labelled(records, range(80), anyone, 0.1, seed=0)
    names = {records[i].patient_id for i in first}
    turned = records[::-1]
    assert {turned[i].patient_id for i in choose_labelled(turned, range(80), anyone, 0.1, seed=0)} == names
    assert choose_labelled(records, range(80), anyone, 0.1, seed=1) != first
