"""Which slices are one stack: by hand, on heights in mm."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from prostafed.client.ingest.records import Acquisition, Slice
from prostafed.client.ingest.scan.stacks import find_places, is_stack, join_parts, split_acquisitions

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ODD, EVEN = (3.0, 9.0, 15.0, 21.0), (0.0, 6.0, 12.0, 18.0)
WHOLE = sorted((*ODD, *EVEN))


def at(height: float, b: float | None = None, acquisition: Acquisition | None = None, **values: object) -> Slice:
    one = Slice(Path("x"), 0, "1", 1, 4, 6, (1.0, 2.0, height), AXIAL, (0.5, 0.5), b, False, 1.0, 0.0)
    return replace(one, acquisition=acquisition or Acquisition(), **values)  # type: ignore[arg-type]


def stack(heights: Sequence[float], b: float | None = None, **values: object) -> list[Slice]:
    return [at(height, b, **values) for height in heights]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        ([EVEN, ODD], [[0, 1]]),  # interleaved
        ([(0, 3, 6), (9, 12)], [[0, 1]]),  # continued
        ([(0, 9, 18), (3, 12, 21), (6, 15, 24)], [[0, 1, 2]]),  # no two of them are evenly spaced
        ([(0, 3, 9, 12), (15, 18, 21)], [[0, 1]]),  # a slice is missing
        ([WHOLE, WHOLE], [[0], [1]]),  # places repeat
        ([WHOLE, (0,)], [[0], [1]]),
        ([EVEN, EVEN, ODD, ODD], [[0, 2], [1, 3]]),  # two echoes of two roundings each
        ([(0, 3, 6, 9), (1, 4, 7, 10)], [[0], [1]]),  # moved between two acquisitions
        ([(0, 3, 6), (60, 63, 66)], [[0], [1]]),  # another part of the body
        ([(0, 3.02, 6), (9.01, 12)], [[0, 1]]),  # rounded
        ([WHOLE], [[0]]),
    ],
)
def test_parts_join_where_they_complete_each_other(parts: list[Sequence[float]], joined: list[list[int]]) -> None:
    assert join_parts([stack(heights) for heights in parts]) == joined


def test_parts_of_another_geometry_stay_apart() -> None:
    turned = (1.0, 0.0, 0.0, 0.0, 0.9950, 0.0998)
    for other in ({"rows": 5}, {"pixel_spacing_mm": (0.6, 0.6)}, {"orientation": turned}, {"position_mm": None}):
        assert join_parts([stack(EVEN), [replace(each, **other) for each in stack(ODD)]]) == [[0], [1]]  # type: ignore[arg-type]
    nearly = (1.0, 0.0002, 0.0, 0.0, 1.0, 0.0)
    assert join_parts([stack(EVEN), stack(ODD, orientation=nearly)]) == [[0, 1]]


def test_b_values_are_stacks_of_their_own() -> None:
    low, high = stack(WHOLE, 50), stack(WHOLE, 800)
    assert join_parts([low, high]) == [[0], [1]]  # other images, perhaps of another echo time
    assert join_parts([stack(EVEN, 50) + stack(ODD, 800), stack(ODD, 50) + stack(EVEN, 800)]) == [[0, 1]]
    assert join_parts([stack(WHOLE[:5], 50), stack(WHOLE[5:], 50) + high]) == [[0, 1]]


def heights_of(stacks: list[tuple[Slice, ...]]) -> list[list[float]]:
    return [[each.position_mm[2] for each in one if each.position_mm] for one in stacks]


@pytest.mark.parametrize("count", ["number", "time_position", "time"])
def test_a_repeat_is_told_by_any_of_three_counts(count: str) -> None:
    first, second = (Acquisition(**{count: "0900" if count == "time" else 1}), Acquisition(**{count: "0930"}))  # type: ignore[arg-type]
    if count != "time":
        second = Acquisition(**{count: 2})  # type: ignore[arg-type]
    both = stack(WHOLE, acquisition=second) + stack(WHOLE, acquisition=first)
    assert heights_of(split_acquisitions(both)) == [WHOLE, WHOLE]
    assert all(each.acquisition == first for each in split_acquisitions(both)[0])


def number(heights: Sequence[float], numbers: Sequence[float]) -> list[Slice]:
    return [at(h, acquisition=Acquisition(number=n)) for h, n in zip(heights, numbers, strict=True)]


@pytest.mark.parametrize(
    ("heights", "numbers", "expected"),
    [
        (WHOLE, [1] * 8, [WHOLE]),
        (WHOLE, [1, 2] * 4, [WHOLE]),  # packages
        (WHOLE + WHOLE, [1, 2] * 4 + [3, 4] * 4, [WHOLE, WHOLE]),
        ([*WHOLE, 3.0, 9.0], [1] * 8 + [2] * 2, [WHOLE, [3.0, 9.0]]),  # two slices again
        ([0, 3, 6, *WHOLE], [1] * 3 + [2] * 8, [[0, 3, 6], WHOLE]),  # broken off
        (WHOLE + [h + 1 for h in WHOLE], [1] * 8 + [2] * 8, [WHOLE, [h + 1 for h in WHOLE]]),  # moved
        ([0, 3, 3, 9, 12], [1] * 5, [[0, 3, 3, 9, 12]]),  # a wrong position
        ([0, 3, 3, 9, 12], [1, 2, 3, 4, 5], [[0, 3, 3, 9, 12]]),
        ([0, 3, 9, 12, 15], [1, 2, 1, 2, 1], [[0, 3, 9, 12, 15]]),  # a slice is missing
    ],
)
def test_acquisitions(heights: Sequence[float], numbers: Sequence[float], expected: list[list[float]]) -> None:
    assert heights_of(split_acquisitions(number(heights, numbers))) == expected


def test_without_a_count_or_a_place_nothing_is_split() -> None:
    assert len(split_acquisitions(stack(WHOLE + WHOLE))) == 1
    lost = [*number(WHOLE + WHOLE, [1] * 8 + [2] * 8), at(0, position_mm=None)]
    assert len(split_acquisitions(lost)) == 1
    some = number(WHOLE, [1] * 8) + stack(WHOLE)
    assert len(split_acquisitions(some)) == 1


def test_heights_within_a_tenth_of_a_millimetre_are_one_place() -> None:
    places = find_places(stack([0.0, 3.0, 3.04, 2.96, 3.2]))
    assert len(set(places)) == 3
    assert find_places([at(float("nan")), at(0, orientation=None)]) == [None, None]


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize(
    ("heights", "whole", "with_holes"),
    [
        ([], True, True),
        ([5], True, True),
        ([0, 9], True, True),
        ([0, 3, 6, 9, 15, 18, 21], False, True),
        ([0, 3, 6, 9, 10, 12], False, False),
        ([0, 3, 6, 9, 12, 27], False, False),
        ([0, 3, 9, 12, 18, 21], False, False),
    ],
)
def test_what_is_a_stack(heights: list[float], whole: bool, with_holes: bool, holes: bool) -> None:
    assert is_stack([(0, None, float(each)) for each in heights], holes=holes) is (with_holes if holes else whole)


def test_order_of_files_does_not_matter() -> None:
    both = number(WHOLE + WHOLE, [1] * 8 + [2] * 8)
    for step, start in product((1, -1), range(3)):
        turned = (both[start:] + both[:start])[::step]
        assert [sorted(each) for each in heights_of(split_acquisitions(turned))] == [WHOLE, WHOLE]
