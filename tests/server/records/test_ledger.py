"""The ledger: lines are added, chained, on disk, and half a line is no line."""

from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError
from prostafed.server.records.ledger import FILE, Entry, Ledger, read_ledger


def fill(folder: Path) -> list[str]:
    ledger = Ledger(folder, "abc")
    for number in (1, 2, 3):
        ledger.add(Entry("round", 1, number, model=f"m{number}"))
    assert ledger.length == 3
    return (folder / FILE).read_text().splitlines()


def test_lines_are_numbered_and_say_what_happened(tmp_path: Path) -> None:
    fill(tmp_path)
    Ledger(tmp_path, "abc").add(Entry("left", 1, 3, "north"))
    lines = read_ledger(tmp_path)
    assert [line["number"] for line in lines] == [1, 2, 3, 4]
    assert {name: lines[3][name] for name in ("event", "stage", "round", "site", "study_hash")} == {
        "event": "left",
        "stage": 1,
        "round": 3,
        "site": "north",
        "study_hash": "abc",
    }
    assert "model" not in lines[3]


@pytest.mark.parametrize("alter", ["remove", "change", "swap"])
def test_a_line_taken_out_or_altered_shows(tmp_path: Path, alter: str) -> None:
    lines = fill(tmp_path)
    if alter == "remove":
        lines = [lines[0], lines[2]]
    elif alter == "change":
        lines[1] = lines[1].replace("m2", "mX")
    else:
        lines = [lines[1], lines[0], lines[2]]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"line \d does not follow from the line before it"):
        read_ledger(tmp_path)


def test_half_a_last_line_is_dropped_and_the_next_follows_on(tmp_path: Path) -> None:
    lines = fill(tmp_path)
    (tmp_path / FILE).write_text("\n".join(lines) + '\n{"event": "rou')
    assert len(read_ledger(tmp_path)) == 3
    Ledger(tmp_path, "abc").add(Entry("resumed"))
    assert [line["event"] for line in read_ledger(tmp_path)] == ["round", "round", "round", "resumed"]


def test_a_line_that_is_none_is_said(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / FILE).write_text("[1, 2]\n")
    with pytest.raises(CheckpointError, match="holds a line that is no JSON object"):
        Ledger(tmp_path, "abc")


def test_it_knows_the_lines_it_was_opened_with(tmp_path: Path) -> None:
    fill(tmp_path)
    ledger = Ledger(tmp_path, "abc")
    assert ledger.holds(Entry("round", 1, 2, model="m2"))
    assert not ledger.holds(Entry("round", 1, 2, model="m3"))
    assert not ledger.holds(Entry("round", 2, 2, model="m2"))
