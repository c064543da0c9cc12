"""The hours a site works in."""

import re
from datetime import time

import pytest

from prostafed.client.site.hours import HOURS, is_within


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [("20:00-06:00", ["20:00", "23:59", "00:00", "05:59"], ["06:00", "19:59"]), ("08:30-17:00", ["08:30"], ["17:00"])],
)
def test_hours_may_pass_midnight_and_their_end_is_left_out(hours: str, inside: list[str], outside: list[str]) -> None:
    assert all(is_within(hours, time.fromisoformat(each)) for each in inside)
    assert not any(is_within(hours, time.fromisoformat(each)) for each in outside)


def test_no_hours_are_all_hours() -> None:
    assert is_within("", time(3))


@pytest.mark.parametrize("text", ["20-06", "24:00-06:00", "20:00-06:60", "always", "20:00-06:00 "])
def test_other_texts_are_no_hours(text: str) -> None:
    assert not re.fullmatch(HOURS, text)
