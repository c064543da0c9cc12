"""Which diffusion images may be fitted together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.ingest.images.compatible import (
    count_positions,
    expect_positions,
    explain_interruption,
    find_difference,
    lies_within,
    share_grid,
    split_exposures,
)
from prostafed.client.ingest.records import Slice


def image(values: object, origin: tuple[float, ...] = (1, 2, 3)) -> sitk.Image:
    made = sitk.GetImageFromArray(np.asarray(values, dtype=np.float32))
    made.SetOrigin(origin)
    made.SetSpacing((2, 2, 3))
    return made


def make(echo_ms: float | None = 68.0, repetition_ms: float | None = 3000.0, z: float = 0.0) -> Slice:
    return Slice(
        *(Path("x"), 0, "1", 1, 2, 2, (0, 0, z), None, None, 50.0, False, 1.0, 0.0),
        echo_time_ms=echo_ms, repetition_time_ms=repetition_ms,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (make(), ""),
        (make(68.6), ""),  # rounding
        (make(69.0), "echo time"),
        (make(95.0, 5000.0), "echo time"),
        (make(repetition_ms=3029.0), ""),
        (make(repetition_ms=3100.0), "repetition time"),
        (make(None), "echo time"),
        (make(repetition_ms=None), "repetition time"),
    ],
)
def test_times_that_may_be_fitted_together(other: Slice, difference: str) -> None:
    assert find_difference(make(), other) == find_difference(other, make()) == difference


def test_times_nobody_tells_do_not_differ() -> None:
    assert find_difference(make(None, None), make(None, None)) == ""


def test_exposures_lose_no_slice_and_come_largest_first() -> None:
    one, other = [make(95.0, z=0)], [make(68.0, z=z) for z in (0, 3)]
    assert split_exposures([other[0], *one, other[1]]) == split_exposures([*one, *other]) == [tuple(other), tuple(one)]
    ties = [make(95.0), make(68.0)]
    assert split_exposures(ties) == split_exposures(ties[::-1])
    assert split_exposures([]) == []


def test_part_of_a_stack_lies_within_it() -> None:
    whole = image(np.zeros((5, 3, 4)))
    assert lies_within(image(np.zeros((3, 3, 4))), whole)
    assert lies_within(image(np.zeros((2, 3, 4)), (1, 2, 12)), whole)
    assert not lies_within(whole, whole)
    assert not lies_within(image(np.zeros((3, 3, 4)), (1, 2, 12)), whole), "it ends beyond"
    assert not lies_within(image(np.zeros((3, 3, 4)), (1, 2, 0)), whole), "it begins before"
    assert not lies_within(image(np.zeros((3, 3, 4)), (9, 2, 3)), whole), "it lies aside"
    assert not lies_within(image(np.zeros((3, 3, 4)), (1, 2, 4.5)), whole), "it lies between"
    assert not lies_within(image(np.zeros((3, 4, 3))), whole)


def test_most_b_values_say_how_many_positions_there_are() -> None:
    groups = [[make(z=z) for z in range(count)] for count in (19, 19, 25, 14)]
    assert expect_positions(groups) == 19
    assert expect_positions(groups[2:]) == 25
    assert expect_positions([]) == 0
    repeated = [*groups[3], *(replace(each, instance_number=9) for each in groups[3])]
    assert count_positions(repeated) == 14


def test_an_interruption_is_said_with_what_becomes_of_it() -> None:
    skipped, used = (explain_interruption("800", 14, 19, severity) for severity in ("S", "W"))
    assert (skipped.code, skipped.severity) == ("MISSING_SLICE", "S")
    assert "expected 19 slices at every b-value, found 14 at b=800, which is left out" in skipped.text
    assert "used only where nothing can stand in" in used.text


def test_grids_are_shared_within_a_tenth_of_a_millimetre() -> None:
    one = image(np.zeros((2, 3, 4)))
    assert share_grid(one, image(np.zeros((2, 3, 4)), (1.09, 2, 3)))
    assert not share_grid(one, image(np.zeros((2, 3, 4)), (1.11, 2, 3)))
    assert not share_grid(one, image(np.zeros((2, 4, 3))))
    wider = image(np.zeros((2, 3, 4)))
    wider.SetSpacing((2.1, 2, 3))
    assert not share_grid(one, wider)


def test_times_that_differ_from_slice_to_slice_leave_a_stack_whole() -> None:
    def place(*args: float, **named: float) -> Slice:
        return replace(make(*args, **named), orientation=(1.0, 0, 0, 0, 1, 0), pixel_spacing_mm=(1.0, 1.0))

    alternate = [place(68.0 + z % 2 * 2, z=z) for z in range(6)]
    blocks = [place(68.0, 3000.0 + 100 * (z > 2), z=z) for z in range(6)]
    higher = [replace(each, b_value_s_per_mm2=800.0) for each in alternate]
    assert [len(each) for each in split_exposures([*alternate, *higher])] == [12]
    assert [len(each) for each in split_exposures(blocks)] == [6]
    assert [len(each) for each in split_exposures([*alternate, place(70.0, z=0.0)])] == [4, 3]


def test_a_b_value_of_two_protocols_is_split() -> None:
    low, high = ([make(repetition_ms=time, z=z) for z in (0, 3) for time in times] for times in ((3000, 3050), (3400,)))
    assert [len(each) for each in split_exposures([*low, *high])] == [4, 2]
    other = [replace(make(repetition_ms=3400.0, z=z), b_value_s_per_mm2=800.0) for z in (0, 3)]
    assert [len(each) for each in split_exposures([*low, *high, *other])] == [4, 4]
