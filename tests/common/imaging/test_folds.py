"""Splits: no patient on two sides, cancers on every side, nothing left out."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.folds import SPLITS, read_splits, split_cases, write_splits


def make_records(labels: list[bool | None], studies_per_patient: int = 1) -> list[CaseRecord]:
    return [
        CaseRecord(f"case-{i}-{j}", f"patient-{i}", cspca=label)
        for i, label in enumerate(labels)
        for j in range(studies_per_patient)
    ]


@given(
    labels=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=40),
    studies=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_every_case_is_on_one_side_with_its_patient(labels: list[bool | None], studies: int, seed: int) -> None:
    records = make_records(labels, studies)
    splits = split_cases(records, seed, 0.1, 0.25)
    assert sorted(index for side in SPLITS for index in splits[side]) == list(range(len(records)))
    side_of = {records[index].patient_id: side for side in SPLITS for index in splits[side]}
    for side in SPLITS:
        assert all(side_of[records[index].patient_id] == side for index in splits[side])
    assert splits["train"]
    assert splits["test"] or len(labels) == 1


def test_cancers_are_spread_as_the_fractions_say() -> None:
    records = make_records([True] * 20 + [False] * 60)
    splits = split_cases(records, 1, 0.1, 0.25)
    counts = {side: (len(splits[side]), sum(bool(records[i].cspca) for i in splits[side])) for side in SPLITS}
    assert counts == {"train": (52, 13), "validation": (8, 2), "test": (20, 5)}


def test_order_of_cases_does_not_matter_and_the_seed_does() -> None:
    records = make_records([True] * 5 + [False] * 15)

    def names(order: list[CaseRecord], seed: int) -> set[str]:
        return {order[i].case_id for i in split_cases(order, seed, 0.1, 0.25)["test"]}

    assert names(records, 1) == names(records[::-1], 1)
    assert names(records, 1) != names(records, 2)


def test_written_splits_read_back(tmp_path: Path) -> None:
    records = make_records([True] * 5 + [False] * 15)
    splits = split_cases(records, 1, 0.1, 0.25)
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
