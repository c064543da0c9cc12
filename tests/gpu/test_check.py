"""The script of `make gpu-check` runs where only torch, numpy and MONAI are installed; that it finds faults, too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ABSENT = ("flwr", "pydantic", "SimpleITK", "pydicom", "typer", "rich", "httpx", "matplotlib", "opacus", "safetensors")
RUN = f"""
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.path.insert(0, {str(HERE)!r})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, str(HERE / "check.py"), "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_runs_without_an_installation_and_ends_with_one_json_object() -> None:
    ended = run("--only", "ceiling", "memory", "--json")
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    found = json.loads(line)
    assert found["ceiling"]["float32"] > 0
    assert found["memory"]["skipped"]
    assert found["failed"] == []


@pytest.mark.slow
def test_every_method_and_task_trains_on_a_cpu_as_on_a_cpu() -> None:
    ended = run("--only", "methods", "together", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
