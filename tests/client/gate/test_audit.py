"""What happened at the gate stands in the audit, once each, chained; nothing of it is a patient's."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.gate.audit import (
    FILE,
    MOST_SHOWN,
    read_audit,
    read_whole,
    record,
    record_answer,
    record_request,
)
from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.shell import rotating

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


def test_a_request_has_a_line_and_one_that_is_refused_again_and_again_has_one(tmp_path: Path) -> None:
    for _ in range(3):
        record_request(tmp_path, ASKED)
        record_answer(tmp_path, ASKED, Refusal("HELD"))
    record_request(tmp_path, ASKED)
    record_answer(tmp_path, ASKED, SAID)
    record_request(tmp_path, ASKED)
    record_answer(tmp_path, ASKED, SAID)
    assert events(tmp_path) == ["received", "refused", "answered", "received", "answered"]


class TestRotation:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rotating, "MOST_BYTES", 400)

    def fill(self, folder: Path, lines: int = 12) -> list[Path]:
        for number in range(lines):
            record(folder, "answered", bytes=number)
        return rotating.list_parts(folder / FILE)

    def test_a_full_file_is_put_away_and_the_chain_goes_on(self, tmp_path: Path) -> None:
        parts = self.fill(tmp_path)
        assert [path.name for path in parts[:2]] == ["audit-000001.jsonl", "audit-000002.jsonl"]
        assert parts[-1].name == FILE
        assert all(path.stat().st_size < 700 for path in parts)
        lines, wrong = read_audit(tmp_path)
        assert not wrong
        assert [(line["number"], line["bytes"]) for line in lines] == [(n + 1, n) for n in range(12)]
        last = parts[0].read_text().splitlines()[-1]
        first = json.loads(parts[1].read_text().splitlines()[0])
        assert first["previous"] == hashlib.sha256(last.encode()).hexdigest()

    def test_a_file_that_is_taken_out_or_altered_shows(self, tmp_path: Path) -> None:
        first, second, *_ = self.fill(tmp_path)
        whole = first.read_text()
        first.write_text(whole.replace('"bytes": 0', '"bytes": 9'))
        assert "line 2 does not follow" in read_audit(tmp_path)[1]
        first.write_text("".join(whole.splitlines(keepends=True)[:-1]))
        assert "does not follow" in read_audit(tmp_path)[1]
        first.write_text(whole)
        assert not read_audit(tmp_path)[1]
        second.unlink()
        assert "does not follow" in read_audit(tmp_path)[1]
        first.unlink()
        assert "line 1 does not follow" in read_audit(tmp_path)[1]

    @pytest.mark.parametrize("left", [b"", None], ids=["an empty file", "none"])
    def test_one_that_was_killed_between_two_files_goes_on(self, tmp_path: Path, left: bytes | None) -> None:
        self.fill(tmp_path)
        count = len(read_audit(tmp_path)[0])
        (tmp_path / FILE).rename(tmp_path / f"audit-{len(rotating.list_parts(tmp_path / FILE)):06}.jsonl")
        if left is not None:
            (tmp_path / FILE).write_bytes(left)
        record(tmp_path, "answered", bytes=99)
        lines, wrong = read_audit(tmp_path)
        assert (len(lines), wrong) == (count + 1, "")

    def test_what_is_said_again_is_known_over_the_border(self, tmp_path: Path) -> None:
        for _ in range(9):
            record(tmp_path, "refused", code="DATA", text="x" * 150)
            record(tmp_path, "answered", text="x" * 150)
        count = len(events(tmp_path))
        record(tmp_path, "refused", code="DATA")
        record(tmp_path, "refused", code="DATA")
        assert len(events(tmp_path)) == count + 1

    def test_cut_off_lines_show_to_who_kept_the_head(self, tmp_path: Path) -> None:
        self.fill(tmp_path, 7)
        _, head, _ = read_whole(tmp_path)
        assert head.number == 7
        self.fill(tmp_path, 5)

        def differs() -> str:
            lines, now, wrong = read_whole(tmp_path)
            assert not wrong
            return rotating.find_difference(lines, now, head)

        assert differs() == ""
        *_, before, last = rotating.list_parts(tmp_path / FILE)
        last.unlink()
        while read_whole(tmp_path)[1].number >= head.number:
            before.write_text("".join(before.read_text().splitlines(keepends=True)[:-1]))
            *_, before = rotating.list_parts(tmp_path / FILE)
        assert "were cut off" in differs()
        self.fill(tmp_path, 5)
        assert "written anew" in differs()
