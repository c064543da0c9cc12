"""A site's answers, without a server."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.gate.release import ReleaseError
from prostafed.client.rounds import answer as work
from prostafed.client.rounds import job as jobs
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.workplace import open_workplace
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord, Grid
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tasks.task import Task
from prostafed.common.tensors import read_tensors, select_groups

SEQUENCES, GRID = ("t2w", "adc", "hbv"), Grid((3.0, 1.0, 1.0), (4, 16, 16))


@pytest.fixture
def study() -> Study:
    return parse(
        {
            "name": "site",
            "data": {"size": GRID.size, "spacing_mm": GRID.spacing_mm},
            "model": {"width": 4, "resolutions": 2},
            "stage": [{"kind": "finetune", "task": "classify", "rounds": 1}],
        },
        Study,
        "test",
    )


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    """A site of eight cases, every second with csPCa."""
    (tmp_path / "cases").mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        name = f"case{number}"
        record = CaseRecord(name, name, cspca=bool(number % 2), sequences=dict.fromkeys(SEQUENCES, "acquired"))
        image = rng.normal(size=(3, *GRID.size)).astype(np.float16)
        write_case(tmp_path / "cases", record, image, np.zeros((3, *GRID.size), np.uint8), GRID, SEQUENCES)
    path = tmp_path / "site.toml"
    path.write_text('name = "north"\nminimum_cell = 1\nprivacy.minimum_cohort = 1\n')
    return path


def test_a_site_that_never_trained_can_be_evaluated(site_file: Path, study: Study) -> None:
    place = open_workplace(site_file, study.canonical())
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    request = Request("evaluate", "run", study.hash(), 1, 1, sent, ("test",))
    reply = work.answer(place, request)
    assert reply.metrics["test/n"] == len(place.splits["test"]) == 2
    kept = open_job(place, request).folder / "predictions-test.jsonl"
    assert len(kept.read_text().splitlines()) == 2
    assert not reply.tensors


def test_an_evaluation_runs_as_the_site_file_says(
    site_file: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file.write_text('name = "north"\nmicro_batch = 1\nprecision = "bf16"\n')
    place, seen = open_workplace(site_file, study.canonical()), []
    build = jobs.build_task

    def build_watched(name: str) -> Task:
        task = build(name)

        def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
            logits = task.outputs(network, images)
            seen.append((len(images), logits.dtype))
            return logits

        return replace(task, outputs=outputs)

    monkeypatch.setattr(jobs, "build_task", build_watched)
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    work.answer(place, Request("evaluate", "run", study.hash(), 1, 1, sent, ("test",)))
    assert seen == [(1, torch.bfloat16)] * 2


@pytest.mark.parametrize("leak", ["hello", "evaluate", "train", "train's tensors", "train's shapes", "train's dtypes"])
def test_whatever_a_site_answers_passes_the_gate(
    leak: str, site_file: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file.write_text('name = "north"\nshare_cohort = true\nprivacy.minimum_cohort = 1\n')
    place = open_workplace(site_file, study.canonical())
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    request = Request(leak.partition("'")[0], "run", study.hash(), 1, 1, sent, ("test",))
    name = min(sent)
    changed = {
        "train's tensors": {"head.weight": np.zeros(1)},
        "train's shapes": {name: np.zeros((999, *sent[name].shape), np.float32)},
        "train's dtypes": {name: sent[name].astype(np.float64)},
    }
    metrics = {} if leak in changed else {"train/patient": 7.0}
    reply = Reply("north", study.hash(), 1, 1, 1, {**sent, **changed.get(leak, {})}, metrics)
    monkeypatch.setattr(work, "count_cohort", lambda *_: {"patient": 7.0})
    monkeypatch.setattr(work, "describe", lambda *_, **__: {"patient": 7.0})
    monkeypatch.setattr(work, "train_round", lambda *_: reply)
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        work.answer(place, request)
