"""A run folder of the last release: reported and exported by this one, resumed by its own.

`last_release` is what commit 0b8d374 wrote for two generated hospitals, but for the tensors, which are drawn here.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.errors import CheckpointError
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import read_tensors
from prostafed.server.export import export_run
from prostafed.server.records.read import read_run
from prostafed.server.records.write import open_run, read_records, write_evaluations, write_metrics, write_rounds
from prostafed.server.report import write_report
from tests.server.records.ledger_lines import read_ledger

FOLDER = Path(__file__).parent / "last_release"
POOLED = {
    "stage": 2, "split": "test", "metric": "auroc", "value": 0.7, "low": 0.5, "high": 0.9, "lowest": 0.69,
    "highest": 0.71, "sites": ["north", "south"],
}  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    run = shutil.copytree(FOLDER, tmp_path / "run")
    (run / "pooled.json").write_text(json.dumps([POOLED]))
    metadata = {"study_hash": json.loads((run / "study.json").read_text())["hash"]}
    tensors = read_tensors(build_stage_network(read(run), 2))
    save_checkpoint(run / "model.safetensors", tensors, metadata)
    return run


def read(run: Path, **changes: Any) -> Study:
    return parse({**read_run(run).study, **changes}, Study, "study.json")


def test_its_keys_are_read_as_they_are_called_now(old: Path) -> None:
    folder = read_run(old)
    assert "stages" in json.loads((old / "study.json").read_text())["study"]["model"]
    study = read(old)
    assert (study.model.resolutions, study.initial.weights, study.round.close_after) == (2, "random", 2)
    assert (folder.study_hash, len(folder.rounds), len(folder.evaluations)) == (folder.rounds[0].study_hash, 2, 1)
    assert [row.sites for row in folder.all_patients] == [("north", "south")]
    assert read_ledger(old)[-1].event == "finished"


def test_it_is_reported_and_exported(old: Path) -> None:
    page = write_report(old).read_text()
    assert "north" in page
    assert "0.700" in page, "results over all patients"
    exported = export_run(old, min_confidence=0.25)
    assert exported["task"] == "classify"


def test_what_it_holds_is_written_as_it_was(old: Path) -> None:
    rounds, _, evaluations = read_records(old, 9, 9)
    metrics = read_run(old).metrics
    write_rounds(old, rounds)
    write_evaluations(old, evaluations)
    write_metrics(old, metrics)
    for name in ("rounds.jsonl", "evaluations.jsonl", "metrics.csv"):
        assert (old / name).read_text() == (FOLDER / name).read_text()


def test_its_run_is_resumed_by_the_release_that_started_it(old: Path) -> None:
    with pytest.raises(CheckpointError, match=r"that another release started\. Resume it with that release, or choose"):
        open_run(old, read(old))
    with pytest.raises(CheckpointError, match="holds a run of another study"):
        open_run(old, read(old, seed=4))
    assert (old / "study.json").read_bytes() == (FOLDER / "study.json").read_bytes()
