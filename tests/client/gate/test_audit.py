"""What happened at the gate stands in the audit, once each, chained; nothing of it is a patient's."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.audit import FILE, MOST_SHOWN, read_audit, record, record_answer
from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.messages import Refusal, Reply, Request

ASKED = Request("train", "demo", "ab12", 1, 2, {"encoder.w": np.ones(3, np.float32)})
SAID = Reply("north", "ab12", 1, 2, 7, {"encoder.w": np.ones(3, np.float32)}, {"train/loss": 0.5, "train/steps": 3.0})


def events(folder: Path) -> list[str]:
    lines, wrong = read_audit(folder)
    assert not wrong
    return [line["event"] for line in lines]


def test_a_site_without_audit_has_no_lines(tmp_path: Path) -> None:
    assert read_audit(tmp_path) == ([], "")


def test_a_line_holds_the_time_the_event_and_the_facts(tmp_path: Path) -> None:
    record(tmp_path, "approved", study="ab12", rounds=8)
    record(tmp_path, "withdrawn", study="ab12")
    (first, second), _ = read_audit(tmp_path)
    assert (first["event"], first["study"], first["rounds"]) == ("approved", "ab12", 8)
    assert first["time"].endswith("+00:00")
    assert (second["event"], second["number"]) == ("withdrawn", 2)


def test_of_an_answer_it_says_how_much_left_and_no_number_of_it(tmp_path: Path) -> None:
    record_answer(tmp_path, ASKED, SAID)
    (line,), _ = read_audit(tmp_path)
    left = {"run": "demo", "study": "ab12", "action": "train", "stage": 1, "round": 2}
    left |= {"cases": 7, "tensors": 1, "bytes": 12, "metrics": 2}
    assert {name: fact for name, fact in line.items() if name not in ("time", "previous")} == {
        **left, "event": "answered", "number": 1,
    }  # fmt: skip


def test_a_refusal_stands_with_its_code_and_once_in_a_row(tmp_path: Path) -> None:
    for _ in range(3):
        record_answer(tmp_path, ASKED, Refusal("DATA"))
    record_answer(tmp_path, None, Refusal("UNKNOWN_REQUEST"))
    record_answer(tmp_path, ASKED, SAID)
    record_answer(tmp_path, ASKED, SAID)
    record_answer(tmp_path, ASKED, Refusal("DATA"))
    lines, _ = read_audit(tmp_path)
    assert [line.get("code", "-") for line in lines] == ["DATA", "UNKNOWN_REQUEST", "-", "-", "DATA"]
    assert "run" not in lines[1]


def test_that_nobody_approved_is_said_elsewhere(tmp_path: Path) -> None:
    record_answer(tmp_path, ASKED, Refusal("NOT_APPROVED"))
    assert events(tmp_path) == []


def test_a_text_from_outside_is_short_and_moves_no_terminal(tmp_path: Path) -> None:
    record_answer(tmp_path, Request("hello", "\x1b[2J\u202e\n" + "x" * 10_000), Refusal("DATA"))
    (line,), _ = read_audit(tmp_path)
    assert line["run"] == "?[2J??" + "x" * (MOST_SHOWN - 6)
    assert (tmp_path / FILE).read_bytes().isascii()


def test_several_at_once_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: record(tmp_path, "answered", number_of=number), range(40)))
    assert len(events(tmp_path)) == 40


def test_an_altered_line_shows_and_the_others_can_still_be_read(tmp_path: Path) -> None:
    for number in range(3):
        record(tmp_path, "answered", bytes=number)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace('"bytes": 1', '"bytes": 0'))
    lines, wrong = read_audit(tmp_path)
    assert len(lines) == 3
    assert "line 3 does not follow from the line before it" in wrong
    path.write_bytes(path.read_bytes() + b"\xff\n")
    lines, wrong = read_audit(tmp_path)
    assert len(lines) == 3
    assert "Restore the file" in wrong


def test_nothing_is_added_behind_a_damaged_line(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps([1]) + "\n")
    with pytest.raises(CheckpointError):
        record(tmp_path, "answered")
