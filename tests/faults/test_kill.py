"""kill -9 at random moments, real processes: no finished round is lost, and the end is that of an undisturbed run."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from prostafed.server.records.read import read_rounds
from prostafed.simulations import simulate
from tests.server.records.ledger_lines import read_ledger

ROUNDS = 10
STUDY = f"""
name = "killed"
seed = 5
[data]
size = [8, 32, 32]
spacing_mm = [6.0, 2.0, 2.0]
validation_fraction = 0.0
[model]
width = 4
resolutions = 3
[[stage]]
kind = "pretrain"
method = "moco"
parameters = {{ queue_size = 8 }}
rounds = {ROUNDS // 2}
epochs = EPOCHS
batch_size = 2
keep_optimiser = true
[[stage]]
kind = "finetune"
task = "lesion"
rounds = {ROUNDS - ROUNDS // 2}
epochs = EPOCHS
batch_size = 2
aggregate = "fedadam"
[round]
quorum = 2
"""
FEDERATION = """
[[site]]
name = "north"
source = "phantom"
cases = 16
[[site]]
name = "south"
source = "phantom"
cases = 16
"""


def start(folder: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [str(Path(sys.executable).parent / "prostafed-sim"), "run", str(folder / "study.toml")]
    command += [str(folder / "federation.toml"), "--out", str(out), "--cache", str(folder / "cache"), "--json"]
    command += ["--resume"] if (out / "run.json").exists() else []
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def finished_rounds(run: Path) -> list[tuple[int, int, str]]:
    """Return (stage, round, hash of the model) of the ledger: what was said to be done."""
    lines = read_ledger(run) if (run / "ledger.jsonl").exists() else []
    return [(line.stage, line.round, line.model) for line in lines if line.event == "round"]


def describe_end(run: Path) -> tuple[str, list[dict[str, object]]]:
    digest = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    return digest, [row.changed(seconds=0.0) for row in read_rounds(run)]


def undisturbed(folder: Path, epochs: int) -> Path:
    (folder / "study.toml").write_text(STUDY.replace("EPOCHS", str(epochs)))
    (folder / "federation.toml").write_text(FEDERATION)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes that are killed: one order of sums
    simulate(folder / "study.toml", folder / "federation.toml", folder / "whole", cache=folder / "cache")
    torch.set_num_threads(threads)
    return folder / "whole" / "arms" / "federated"


def kill_again_and_again(folder: Path, times: int, seed: int, epochs: int) -> None:
    """Kill a run `times` times, each within as long as a round takes, then let it end."""
    expected, lots = undisturbed(folder, epochs), random.Random(seed)
    longest_s = max(row.seconds for row in read_rounds(expected))
    killed = 0
    out = folder / "killed"
    run, done = out / "arms" / "federated", []
    for _ in range(times):
        process = start(folder, out)
        begun = len(read_ledger(run)) if (run / "ledger.jsonl").exists() else 0
        while process.poll() is None and (
            not (run / "ledger.jsonl").exists() or len((run / "ledger.jsonl").read_bytes().splitlines()) <= begun
        ):
            time.sleep(0.02)  # torch is loaded, the run is about to go on
        time.sleep(lots.uniform(0.0, 1.2 * longest_s))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
        now = finished_rounds(run)
        assert now[: len(done)] == done, "a finished round was lost"
        done = now
    assert start(folder, out).wait(timeout=300) == 0, (folder / "log.txt").read_text()[-2000:]
    assert describe_end(run) == describe_end(expected)
    assert killed == times, f"the run was over after {killed} kills"
    assert json.loads((out / "run.json").read_text())["state"] == "finished"


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 20, seed=2, epochs=8)
