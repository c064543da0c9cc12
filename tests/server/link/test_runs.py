"""A link's runs: started again where their process dies, gone on with after the link itself."""

import json
import os
import time
from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError, RoundError, StorageError
from prostafed.server.link import runs as module
from prostafed.server.link.home import ask_link
from prostafed.server.link.link import Link
from prostafed.server.link.submission import Submission, follow_run, stop_run, submit_run
from prostafed.server.records.read import read_state

from .knocking import running_link


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    program = module.start_program
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(
        module, "start_program", lambda name, _, *rest: program(name, "tests.server.link.short_run", *rest)
    )


def submit(link: Link, way: str) -> Path:
    submit_run(link.home, Submission("study", "tiny", 1, way))
    return link.home / "runs" / "tiny"


def tend(link: Link, out: Path) -> None:
    deadline = time.monotonic() + 20
    while link.runs.names():
        assert time.monotonic() < deadline
        link.runs.tend()
        time.sleep(0.02)
    assert read_state(out)


def test_a_run_whose_process_is_killed_is_started_again(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _):
        out = submit(link, "dies once")
        tend(link, out)
    assert read_state(out).state == "finished"
    assert len((out / "starts").read_text().splitlines()) == 2


def test_a_run_whose_process_dies_again_and_again_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_DEATHS", 2)
    with running_link(tmp_path) as (link, _):
        out = submit(link, "dies")
        tend(link, out)
    assert read_state(out).state == "failed"
    assert "ended 2 times without a round between: ValueError: it dies" in read_state(out).error


def test_a_link_goes_on_with_the_runs_of_one_that_ended(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _):
        out = submit(link, "stays")
        wait_for_start(out, 1)
    assert not (out / "state.json").exists()
    with running_link(tmp_path) as (link, _):
        link.runs.go_on()
        assert link.runs.names() == ["tiny"]
        wait_for_start(out, 2)
        stop_run(link.home, "tiny")
        assert link.runs.names() == []
    assert read_state(out).state == "failed"
    assert "It was stopped" in read_state(out).error
    assert json.loads((link.home / "running.json").read_text()) == []
    for pid in (out / "starts").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_full_disk_ends_a_run_with_a_sentence_and_not_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Path:
        raise StorageError(f"Cannot write into {path}. Make room.")

    monkeypatch.setattr("prostafed.server.link.following._LOOK_EVERY_S", 0.05)
    with running_link(tmp_path) as (link, _):
        out = submit(link, "dies once")
        with monkeypatch.context() as patched:
            patched.setattr(module, "make_folder", full)
            deadline = time.monotonic() + 20
            while link.runs.names():
                assert time.monotonic() < deadline
                link.runs.tend()
                time.sleep(0.02)
        with pytest.raises(RoundError, match=r"Make room\. Then resume it: prostafed-server resume tiny"):
            follow_run(link.home, "tiny")
        submit(link, "dies once")
        assert ask_link(link.home, "status")["ended"] == {}
        tend(link, out)
    assert read_state(out).state == "finished"


def wait_for_start(out: Path, times: int) -> None:
    deadline = time.monotonic() + 20
    while not (out / "starts").exists() or len((out / "starts").read_text().splitlines()) < times:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_run_of_a_name_at_a_time(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _):
        submit(link, "stays")
        with pytest.raises(ConfigurationError, match="A run named tiny is going on"):
            submit(link, "stays")


def test_a_run_that_has_ended_and_is_only_leaving_is_resumed(tmp_path: Path) -> None:
    """Who is told that a run ended types `resume` at once, while its process still lets go of what it held."""
    with running_link(tmp_path) as (link, _):
        out = submit(link, "lingers")
        deadline = time.monotonic() + 20
        while not (out / "state.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        submit(link, "")
        tend(link, out)
    assert len((out / "starts").read_text().splitlines()) == 2


def test_a_command_needs_a_link_and_one_that_knows_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No link runs on .* Start it: prostafed-server start"):
        ask_link(tmp_path, "status")
    with running_link(tmp_path) as (link, _):
        with pytest.raises(ConfigurationError, match="does not know the command dance"):
            ask_link(link.home, "dance")
        with pytest.raises(ConfigurationError, match="No run named west is going on"):
            ask_link(link.home, "stop", name="west")


def test_a_finished_run_is_followed_to_its_end(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _):
        out = submit(link, "")
        tend(link, out)
        follow_run(link.home, "tiny")
