"""A halted site answers one word, and nothing else leaves it."""

from pathlib import Path

import pytest

from prostafed.client.gate.audit import read_audit
from prostafed.client.gate.halt import FILE, go_on, halt, is_halted, require_going, say_halt
from prostafed.common.errors import HaltedError, StorageError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from tests.client.gate.hospital import STUDY, ask_round, make_hospital, put


def test_it_says_who_halted_it_since_when_and_why(tmp_path: Path) -> None:
    require_going(tmp_path)
    assert say_halt(tmp_path) == ""
    halt(tmp_path, "jane", "A theft.")
    assert is_halted(tmp_path)
    said = say_halt(tmp_path)
    assert "by jane: A theft. Nothing leaves this site." in said
    with pytest.raises(HaltedError, match="prostafed-site go-on"):
        require_going(tmp_path)
    go_on(tmp_path, "joe")
    require_going(tmp_path)
    lines, wrong = read_audit(tmp_path)
    assert [(line["event"], line["by"]) for line in lines] == [("halted", "jane"), ("went on", "joe")]
    assert not wrong


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"at": 1}'])
def test_a_file_that_cannot_be_read_stops_everything_as_well(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(HaltedError, match="there is a file"):
        require_going(tmp_path)


def test_it_is_halted_though_the_audit_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr("prostafed.client.gate.halt.record", fail)
    with pytest.raises(StorageError):
        halt(tmp_path, "jane")
    assert is_halted(tmp_path)
    with pytest.raises(StorageError):
        go_on(tmp_path, "jane")
    assert is_halted(tmp_path), "it goes on only where that stands in the audit"


def test_a_worker_refuses_whatever_it_is_asked_and_goes_on_after(tmp_path: Path) -> None:
    site_file, north = make_hospital(tmp_path / "north"), tmp_path / "north"
    halt(north, "jane")
    for request in (Request("hello", study_hash=STUDY.hash()), ask_round()):
        assert put(site_file, request) == Refusal("HALTED")
    go_on(north, "jane")
    assert isinstance(put(site_file, ask_round()), Reply)
