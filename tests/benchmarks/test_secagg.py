"""The benchmark of masked rounds still runs and prints what a benchmark has to; how fast it is, is no test."""

import json
import subprocess
import sys
from pathlib import Path


def test_it_prints_a_row_per_system_and_rule() -> None:
    script = Path(__file__).parent / "secagg.py"
    command = [sys.executable, str(script), "--sites", "3", "--parameters", "40000", "--repeats", "1", "--flower"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    found = json.loads(printed.splitlines()[-1])
    assert found["benchmark"] == "secagg"
    assert [row["system"] for row in found["rows"]] == [
        "plain fixed16",
        "masked fixed16",
        "plain fixed32",
        "masked fixed32",
        "Flower SecAgg+ functions",
    ]
    assert [row["bytes_up"] for row in found["rows"] if row["system"].startswith("plain")] == [160_000, 320_000]
