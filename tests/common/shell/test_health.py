"""What is wrong is named with its remedy; an exit code says it to a monitor."""

import json

import pytest

from prostafed.common.shell.command import NOT_READY, NOT_RUNNING
from prostafed.common.shell.health import Condition, Health

GOOD, LATE = Condition("disk", True, "74 GB are free."), Condition("certificate", True, "It ends soon.", "Ask for it.")
BAD = Condition("approved", False, "No study is approved.", "Approve one.")


@pytest.mark.parametrize(
    ("running", "conditions", "code"),
    [
        (True, (), 0),
        (True, (GOOD,), 0),
        (True, (GOOD, LATE), 0),
        (True, (GOOD, BAD), NOT_READY),
        (False, (GOOD,), NOT_RUNNING),
        (False, (BAD,), NOT_RUNNING),
    ],
)
def test_an_exit_code_for_each_state(running: bool, conditions: tuple[Condition, ...], code: int) -> None:
    health = Health(running, conditions, "It works.")
    assert health.exit_code == code
    assert health.ready is (code == 0)
    assert health.as_json()["ready"] is health.ready
    assert (NOT_READY, NOT_RUNNING) == (1, 3), "monitors know these numbers"


def test_all_well_says_what_goes_on_and_what_ends_soon() -> None:
    assert Health(True, (GOOD, LATE), "It works.").say().splitlines() == [
        "Ready: It works.",
        "ok   disk         74 GB are free.",
        "soon certificate  It ends soon.",
        "                  -> Ask for it.",
    ]


def test_what_fails_is_named_first_and_its_remedy_stands_below() -> None:
    assert Health(True, (GOOD, BAD, BAD), "It works.").say().splitlines() == [
        "Not ready: approved.",
        "ok   disk      74 GB are free.",
        *["FIX  approved  No study is approved.", "               -> Approve one."] * 2,
    ]


@pytest.mark.parametrize("letter", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\n", "\x9b31m", "\u202e", "\x00"])
def test_a_text_from_outside_steers_no_terminal(letter: str) -> None:
    hostile = Condition(f"site {letter}", False, f"a{letter}b", f"do {letter}this")
    health = Health(True, (GOOD, hostile), "")
    said = health.say()
    assert all(each.isprintable() for line in said.split("\n") for each in line)
    assert len(said.split("\n")) == 4
    assert all(each.isprintable() for each in health.as_json()["conditions"][1]["text"])
    json.dumps(health.as_json())
