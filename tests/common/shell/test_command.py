"""A command that is printed can be pasted into the shell that printed it."""

import sys
from pathlib import Path

import pytest

from prostafed.common.shell.command import say_command


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("prostafed-sim", "prostafed-site"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_a_program_called_by_its_path_names_the_others_beside_it(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(sys, "argv", [str(programs / "prostafed-sim"), "run"])
    assert say_command("prostafed-site", "predict", Path("a b")) == f"{programs}/prostafed-site predict 'a b'"
    monkeypatch.chdir(programs.parent)
    monkeypatch.setattr(sys, "argv", [f"{programs.name}/prostafed-sim"])
    assert say_command("prostafed-site") == f"{programs.name}/prostafed-site"


def test_a_program_on_the_path_is_named_alone(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "argv", [str(programs / "prostafed-sim")])
    assert say_command("prostafed-site", "--cases", 2) == "prostafed-site --cases 2"


def test_another_program_tells_nothing_of_where_ours_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/elsewhere/notebook"])
    assert say_command("prostafed-sim", "report") == "prostafed-sim report"
