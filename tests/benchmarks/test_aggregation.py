"""The benchmark of aggregation still runs and prints what a benchmark has to; how fast it is, is no test."""

import json
import subprocess
import sys
from pathlib import Path


def test_it_prints_a_row_per_system() -> None:
    script = Path(__file__).parent / "aggregation.py"
    command = [sys.executable, str(script), "--sites", "2", "--parameters", "1000", "--repeats", "1", "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    (line,) = printed.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == "aggregation"
    assert [row["system"] for row in found["rows"]] == ["prostafed", "flower", "floor"]
    assert all(row["bytes"] == 2 * 4 * 1000 * 2 and row["peak_mb"] > 0 for row in found["rows"])
