"""status.json is whole at every moment, and says what the link last knew."""

import os
from pathlib import Path

import pytest

from prostafed.client.connect import status as module
from prostafed.client.connect.status import FILE, Status, StatusFile, read_status
from prostafed.common.errors import StorageError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StatusFile(tmp_path, Status(coordinator="fl.example.org:8000"))
    file.change(state="connected", node_id=2**63 + 5)
    file.change_worker(state="ready", device="NVIDIA H100")
    read = read_status(tmp_path)
    assert read is not None
    assert (read.state, read.node_id, read.pid) == ("connected", 2**63 + 5, os.getpid())
    assert (read.worker.state, read.worker.device) == ("ready", "NVIDIA H100")
    assert read.written >= read.since > ""


def test_since_is_of_the_state_and_no_other_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", iter("abcdefgh").__next__)
    file = StatusFile(tmp_path, Status())
    began = file.status.since
    file.change(error="no answer")
    assert file.status.since == began
    file.change(state="connected")
    assert file.status.since > began


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "connected"}', '{"worker": {"colour": "red"}}'])
def test_a_file_that_cannot_be_read_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_status(tmp_path) is None


def test_a_full_disk_does_not_end_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr(module, "write_json", full)
    StatusFile(tmp_path, Status()).change(state="connected")
