"""The benchmark of a deployment still runs and prints what a benchmark has to; how fast it is, is no test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_it_prints_a_row_per_system() -> None:
    script = Path(__file__).parent / "deployed.py"
    command = [sys.executable, str(script), "--rounds", "2", "--repeats", "1", "--idle-s", "1", "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    (line,) = printed.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == "deployed"
    assert [row["system"] for row in found["rows"]] == ["prostafed", "flower"]
    assert all(row["round_s"]["min"] > 0 and row["start_s"] > 0 for row in found["rows"])
    assert all(set(row["idle_percent"]) == {"link", "site-1", "site-2"} for row in found["rows"])
    assert set(found["rows"][0]["peak_mb"]) == {"link", "run", "site_link", "worker"}
