"""The ledger: what a line says. That lines are chained is common/shell/chained_file's promise."""

from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError
from prostafed.server.records.ledger import FILE, Entry, Ledger
from tests.server.records.ledger_lines import read_ledger


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
    assert [line.number for line in lines] == [1, 2, 3, 4]
    assert {name: getattr(lines[3], name) for name in ("event", "stage", "round", "site", "study_hash")} == {
        "event": "left",
        "stage": 1,
        "round": 3,
        "site": "north",
        "study_hash": "abc",
    }
    assert "model" not in (tmp_path / FILE).read_text().splitlines()[3]


def test_it_is_chained(tmp_path: Path) -> None:
    lines = fill(tmp_path)
    (tmp_path / FILE).write_text("\n".join([lines[0], lines[2]]) + "\n")
    with pytest.raises(CheckpointError, match=r"line 2 does not follow from the line before it"):
        read_ledger(tmp_path)


def test_it_knows_the_lines_it_was_opened_with(tmp_path: Path) -> None:
    fill(tmp_path)
    ledger = Ledger(tmp_path, "abc")
    assert ledger.holds(Entry("round", 1, 2, model="m2"))
    assert not ledger.holds(Entry("round", 1, 2, model="m3"))
    assert not ledger.holds(Entry("round", 2, 2, model="m2"))
