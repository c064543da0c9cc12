import json
import subprocess
from pathlib import Path

import pytest

from prostafed.common.errors import RoundError
from prostafed.common.shell.flower_programs import find_program, flower_environment
from prostafed.server.link import control
from prostafed.server.link.app_bundle import write_bundle
from prostafed.server.link.control import Connection, find_cause, follow, read_status, write_connection
from prostafed.server.records.lines import RoundLine

LOG = """ERROR : a site's own error
ValueError: of a site
ERROR : ServerApp raised an exception
Traceback (most recent call last):
  raise KeyError("x")
KeyError: 'the cause'

During handling of the above exception, another exception occurred:
RuntimeError: Simulation Runtime crashed.
"""


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setattr(control, "_ASK_EVERY_S", 0.0)
    monkeypatch.setattr(control, "read_log", lambda connection, run_id: LOG)
    monkeypatch.setattr(control, "read_status", lambda connection, run_id: ("running", ""))
    return Connection(tmp_path / "flower", "127.0.0.1:1", None)


def write_run(out: Path, state: dict[str, str], rounds: int = 2) -> None:
    out.mkdir(exist_ok=True)
    (out / "rounds.jsonl").write_text(
        "".join(f'{{"stage": 1, "round": {number}}}\n' for number in range(1, rounds + 1))
    )
    if state:
        (out / "state.json").write_text(json.dumps(state))


def test_each_round_is_reported_once_and_what_was_seen_is_not(tmp_path: Path, connection: Connection) -> None:
    out = tmp_path / "run"
    write_run(out, {}, rounds=2)
    seen, reported = control.read_rounds(out), []

    def on_round(record: RoundLine) -> None:
        reported.append(record.round)
        write_run(out, {"state": "finished"} if record.round == 4 else {}, rounds=min(record.round + 1, 4))

    write_run(out, {}, rounds=3)
    follow(out, connection, "1", on_round=on_round, seen=seen)
    assert reported == [3, 4]
    assert (out / "logs" / "run.log").read_text() == LOG


def test_a_failed_run_raises_its_own_reason(tmp_path: Path, connection: Connection) -> None:
    write_run(tmp_path / "run", {"state": "failed", "error": "Of 2 sites 1 is ready."})
    with pytest.raises(RoundError, match=r"^Of 2 sites 1 is ready\.$"):
        follow(tmp_path / "run", connection, "1")


def test_a_run_that_ended_without_a_word_is_explained_by_its_log(
    tmp_path: Path, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "read_status", lambda connection, run_id: ("finished:failed", "no heartbeat"))
    with pytest.raises(RoundError, match="before it was finished: KeyError: 'the cause'"):
        follow(tmp_path / "run", connection, "1")
    monkeypatch.setattr(control, "read_log", lambda connection, run_id: "nothing of note\n")
    with pytest.raises(RoundError, match="before it was finished: finished:failed: no heartbeat"):
        follow(tmp_path / "run", connection, "1")


def test_the_first_cause_after_the_last_crash_is_found() -> None:
    assert find_cause(LOG) == "KeyError: 'the cause'"
    assert find_cause("INFO : all is well\n") == ""


def test_an_absent_link_is_one_sentence(tmp_path: Path) -> None:
    connection = Connection(tmp_path / "flower", "127.0.0.1:1", None)
    write_connection(connection)
    with pytest.raises(
        RoundError, match=r"^`flwr list` failed at the SuperLink 127.0.0.1:1: Connection to the SuperLink"
    ):
        read_status(connection, "1")


def test_flower_takes_the_bundle_and_it_holds_no_code(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "prostafed")
    contents = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        command = [find_program("flwr"), "build", "--app", bundle]
        subprocess.run(command, env=flower_environment(folder), cwd=folder, check=True, capture_output=True, timeout=60)
        (built,) = folder.glob("*.fab")
        contents.append((built.name, built.read_bytes()))
    assert contents[0] == contents[1]  # one release, one hash
    assert len(contents[0][1]) < 2000
    assert b".py" not in contents[0][1].replace(b"pyproject.toml", b"")
