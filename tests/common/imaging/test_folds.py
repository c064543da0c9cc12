"""Splits: no patient on two sides, cancers on every side, nothing left out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.folds import SPLITS, Splits, assign_cases, draw_sides, read_splits, write_splits

ANY = frozenset({"classify", "lesion"})


def make_records(labels: list[bool | None], studies_per_patient: int = 1) -> list[CaseRecord]:
    return [
        CaseRecord(f"case-{i}-{j}", f"patient-{i}", cspca=label)
        for i, label in enumerate(labels)
        for j in range(studies_per_patient)
    ]


def split(
    records: list[CaseRecord],
    seed: int = 1,
    validation: float = 0.1,
    test: float = 0.25,
    uses: list[frozenset[str]] | None = None,
    judging: frozenset[str] = ANY,
) -> Splits:
    """Split where whoever has a label can be judged by either task, unless `uses` says otherwise."""
    known = [frozenset[str]() if record.cspca is None else ANY for record in records]
    given = known if uses is None else uses
    return assign_cases(records, draw_sides(records, seed, validation, test, given), given, judging)


@given(
    labels=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=40),
    studies=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_every_case_is_on_one_side_with_its_patient(labels: list[bool | None], studies: int, seed: int) -> None:
    records = make_records(labels, studies)
    splits = split(records, seed)
    assert sorted(index for side in SPLITS for index in splits[side]) == list(range(len(records)))
    side_of = {records[index].patient_id: side for side in SPLITS for index in splits[side]}
    for side in SPLITS:
        assert all(side_of[records[index].patient_id] == side for index in splits[side])
    assert splits["train"]
    assert splits["test"] or sum(label is not None for label in labels) < 2
    assert all(records[index].cspca is not None for side in ("validation", "test") for index in splits[side])


def test_cancers_are_spread_as_the_fractions_say() -> None:
    records = make_records([True] * 20 + [False] * 60)
    splits = split(records)
    counts = {side: (len(splits[side]), sum(bool(records[i].cspca) for i in splits[side])) for side in SPLITS}
    assert counts == {"train": (52, 13), "validation": (8, 2), "test": (20, 5)}


def test_order_of_cases_does_not_matter_and_the_seed_does() -> None:
    records = make_records([True] * 5 + [False] * 15)

    def names(order: list[CaseRecord], seed: int) -> set[str]:
        return {order[i].case_id for i in split(order, seed)["test"]}

    assert names(records, 1) == names(records[::-1], 1)
    assert names(records, 1) != names(records, 2)


uses_of_tasks = st.lists(st.sets(st.sampled_from(["anatomy", "classify", "lesion"])), min_size=2, max_size=40)


@given(uses=uses_of_tasks, seed=st.integers(0, 20), judging=st.sets(st.sampled_from(["anatomy", "classify", "lesion"])))
def test_who_is_held_out_for_some_tasks_is_held_out_for_more(
    uses: list[set[str]], seed: int, judging: set[str]
) -> None:
    """A model pretrained for any task has seen nobody a study of one of them tests on."""
    records = make_records([True if "lesion" in each else None for each in uses])
    told = [frozenset(each) for each in uses]
    every = split(records, seed, uses=told, judging=frozenset({"anatomy", "classify", "lesion"}))
    some = split(records, seed, uses=told, judging=frozenset(judging))
    for side in ("validation", "test"):
        assert some[side] == [index for index in every[side] if told[index] & judging]
    for task in judging:
        of_task = [index for index, each in enumerate(told) if task in each]
        assert len(of_task) < 3 or set(of_task) & set(some["test"]), "somebody is tested in every task"


@given(labels=st.lists(st.sampled_from([True, False]), min_size=2, max_size=30), unlabelled=st.integers(1, 20))
def test_unlabelled_patients_are_trained_on_and_change_nobodys_side(labels: list[bool], unlabelled: int) -> None:
    before = split(make_records(list(labels)))
    after = split(make_records([*labels, *[None] * unlabelled]))
    assert (after["validation"], after["test"]) == (before["validation"], before["test"])
    assert len(after["train"]) == len(before["train"]) + unlabelled


def test_fractions_hold_over_many_small_groups() -> None:
    kinds = [frozenset({"classify"}), frozenset({"lesion"}), frozenset({"anatomy", "classify"}), ANY]
    records = make_records([True] * 40)
    splits = split(records, uses=[kinds[index % 4] for index in range(40)], judging=frozenset().union(*kinds))
    assert {side: len(splits[side]) for side in SPLITS} == {"train": 26, "validation": 4, "test": 10}
    small = split(records[:8], uses=[kinds[index % 4] for index in range(8)], judging=frozenset().union(*kinds))
    assert len(small["test"]) >= 2, "a quarter of each two would be nobody"


def test_written_splits_read_back(tmp_path: Path) -> None:
    records = make_records([True] * 5 + [False] * 15)
    splits = split(records)
    write_splits(tmp_path / "splits.csv", records, splits)
    assert read_splits(tmp_path / "splits.csv", records) == splits


def test_rows_of_ignored_cases_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("case_id,split\ncase-0-0,train\ncase-1-0,test\n")
    splits = read_splits(tmp_path / "splits.csv", make_records([True]), ["case-1-0"])
    assert splits == {"train": [0], "validation": [], "test": []}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("case-9-0,train", "found 'case-9-0'"),
        ("case-0-0,training", "'training'"),
        ("case-0-1,test", "two splits"),
        (",", "found ''"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "splits.csv"
    path.write_text(f"case_id,split\ncase-0-0,train\n{line}\n")
    with pytest.raises(DataError, match=f"line 3.*{expected}"):
        read_splits(path, make_records([True, False], studies_per_patient=2))
