import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.metrics.small_cells import _roundest, join_bins, suppress


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, {}),
        ({"a": 10, "b": 30}, {"a": 10, "b": 30}),  # 10 are enough
        ({"a": 0, "b": 30}, {"a": 0, "b": 30}),  # 0 describes nobody
        ({"a": 9, "b": 30, "c": 20}, {"a": None, "b": 30, "c": None}),  # or 9 is the total less 50
        ({"a": 4, "b": 5, "c": 20, "d": 30}, {"a": None, "b": None, "c": None, "d": 30}),  # 4 + 5 = 9 are too few
        ({"a": 4, "b": 6, "c": 20}, {"a": None, "b": None, "c": 20}),
        ({"a": 3, "b": 0, "c": 12}, {"a": None, "b": 0, "c": None}),
        ({"a": 3, "b": 0, "c": 0}, {"a": None, "b": None, "c": None}),
        ({"a": 3}, {"a": None}),
    ],
)
def test_suppression_by_hand(counts: dict[str, int], expected: dict[str, int | None]) -> None:
    assert suppress(counts) == expected
    assert list(suppress(counts)) == list(counts)


def test_the_minimum_is_a_parameter_and_counts_are_checked() -> None:
    assert suppress({"a": 3, "b": 4, "c": 5}, minimum=3) == {"a": 3, "b": 4, "c": 5}
    assert suppress({"a": 2, "b": 4, "c": 5}, minimum=3) == {"a": None, "b": None, "c": 5}
    with pytest.raises(ValueError, match="found -1 for a"):
        suppress({"a": -1})
    with pytest.raises(ValueError, match="at least 1 patient, found 0"):
        suppress({"a": 1}, minimum=0)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 40), max_size=8), st.integers(1, 15))
def test_the_total_gives_no_small_count_away(counts: dict[str, int], minimum: int) -> None:
    told = suppress(counts, minimum)
    hidden = sum(counts.values()) - sum(count for count in told.values() if count is not None)
    assert all(count is None or count == 0 or count >= minimum for count in told.values())
    everything = all(count is None for count in told.values())
    assert hidden == 0 or everything or (hidden >= minimum and list(told.values()).count(None) >= 2)


@pytest.mark.parametrize(
    ("bins", "minimum", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 4, (0, 4)),
        ([0, 1, 2, 3, 4, 5, 6, 7], 2, (0, 2, 4, 6)),
        ([0, 1, 2, 3, 4, 5, 6, 7], 1, tuple(range(8))),
        ([0, 1, 2, 3, 4, 5, 6, 7], 5, (0,)),
        ([0, 0, 1, 7, 7, 7], 3, (0, 4)),  # 2, 3, 4, 5, 6 and 7 would do: 4 is the roundest
        ([5, 5, 5], 1, (0,)),  # no boundary parts them
        ([], 1, None),
        ([0, 1, 2], 4, None),
    ],
)
def test_bins_join_by_hand(bins: list[int], minimum: int, expected: tuple[int, ...] | None) -> None:
    assert join_bins(np.array(bins, dtype=np.intp), range(len(bins)), 8, minimum) == expected


def test_a_patient_counts_once() -> None:
    bins = np.array([0, 1, 2, 3, 4, 5])
    assert join_bins(bins, "abcdef", 8, 2) == (0, 2, 4)
    assert join_bins(bins, "aabbcc", 8, 2) == (0, 3)  # b is in both
    assert join_bins(bins, "aaabbb", 8, 2) == (0,)
    assert join_bins(bins, "aaaaaa", 8, 2) is None


@pytest.mark.parametrize(("lowest", "highest", "expected"), [(1, 7, 4), (5, 7, 6), (5, 5, 5), (1, 255, 128), (3, 3, 3)])
def test_the_roundest_boundary(lowest: int, highest: int, expected: int) -> None:
    assert _roundest(lowest, highest) == expected


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 20)), max_size=80), st.integers(1, 12))
def test_no_joined_bin_holds_too_few_and_none_could_be_cut(items: list[tuple[int, int]], minimum: int) -> None:
    bins, patients = np.array([each for each, _ in items], dtype=np.intp), [whose for _, whose in items]
    starts = join_bins(bins, patients, 32, minimum)
    if starts is None:
        assert len(set(patients)) < minimum
        return
    for start, stop in zip(starts, (*starts[1:], 32), strict=True):
        inside = [(each, whose) for each, whose in items if start <= each < stop]
        assert len({whose for _, whose in inside}) >= minimum
        for cut in range(start + 1, stop):
            parts = [{whose for each, whose in inside if (each < cut) == left} for left in (True, False)]
            assert min(len(part) for part in parts) < minimum
