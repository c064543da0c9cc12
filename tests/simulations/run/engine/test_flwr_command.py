import subprocess
from pathlib import Path

import pytest

from prostafed.common.errors import RoundError
from prostafed.simulations.run.engine import flwr_command
from prostafed.simulations.run.engine.flower_bundle import write_bundle
from prostafed.simulations.run.engine.flower_programs import find_program, flower_environment
from prostafed.simulations.run.engine.flwr_command import (
    Connection,
    find_cause,
    find_end,
    read_status,
    write_connection,
)

LOG = """ERROR : a site's own error
ValueError: of a site
ERROR : ServerApp raised an exception
Traceback (most recent call last):
  raise KeyError("x")
KeyError: 'the cause'

During handling of the above exception, another exception occurred:
RuntimeError: Simulation Runtime crashed.
"""


def test_a_run_that_is_over_is_explained_by_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = Connection(tmp_path / "flower", "127.0.0.1:1", None)
    monkeypatch.setattr(flwr_command, "read_log", lambda connection, run_id: LOG)
    monkeypatch.setattr(flwr_command, "read_status", lambda connection, run_id: ("running", ""))
    assert find_end(connection, "1") == ""
    monkeypatch.setattr(flwr_command, "read_status", lambda connection, run_id: ("finished:failed", "no heartbeat"))
    assert find_end(connection, "1") == "KeyError: 'the cause'"
    monkeypatch.setattr(flwr_command, "read_log", lambda connection, run_id: "nothing of note\n")
    assert find_end(connection, "1") == "finished:failed: no heartbeat"


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


def test_flower_fetches_nothing_and_tells_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = flower_environment(tmp_path, MORE="yes")
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert environment["MORE"] == "yes"


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
