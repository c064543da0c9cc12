"""A site's answers, without a server."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.gate.release import ReleaseError
from prostafed.client.rounds import answer as work
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
    path.write_text('name = "north"\nminimum_cell = 1\n')
    return path


def test_a_site_that_never_trained_can_be_evaluated(site_file: Path, study: Study) -> None:
    place = work.open_workplace(site_file, study.canonical())
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    request = Request("evaluate", "run", study.hash(), 1, 1, sent, ("test",))
    reply = work.evaluate(place, request)
    assert reply.metrics["test/n"] == len(place.splits["test"]) == 2
    assert len(work.predictions_file(place.site, request, "test").read_text().splitlines()) == 2
    assert not reply.tensors


def test_an_evaluation_runs_as_the_site_file_says(
    site_file: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file.write_text('name = "north"\nmicro_batch = 1\nprecision = "bf16"\n')
    place, seen = work.open_workplace(site_file, study.canonical()), []
    build = work.build_task

    def build_watched(name: str) -> Task:
        task = build(name)

        def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
            logits = task.outputs(network, images)
            seen.append((len(images), logits.dtype))
            return logits

        return replace(task, outputs=outputs)

    monkeypatch.setattr(work, "build_task", build_watched)
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    work.evaluate(place, Request("evaluate", "run", study.hash(), 1, 1, sent, ("test",)))
    assert seen == [(1, torch.bfloat16)] * 2


@pytest.mark.parametrize("leak", ["hello", "evaluate", "train", "train's tensors"])
def test_whatever_a_site_answers_passes_the_gate(
    leak: str, site_file: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_file.write_text('name = "north"\nshare_cohort = true\n')
    place = work.open_workplace(site_file, study.canonical())
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ["encoder"])
    request = Request("train", "run", study.hash(), 1, 1, sent, ("test",))
    reply = Reply("north", study.hash(), 1, 1, 1, {**sent, "head.weight": np.zeros(1)} if "tensors" in leak else sent,
                  {} if "tensors" in leak else {"train/patient": 7.0})  # fmt: skip
    monkeypatch.setattr(work, "count_cohort", lambda *_: {"patient": 7.0})
    monkeypatch.setattr(work, "describe", lambda *_, **__: {"patient": 7.0})
    monkeypatch.setattr(work, "train_round", lambda *_: reply)
    ask = {"hello": lambda: work.introduce(place), "evaluate": lambda: work.evaluate(place, request)}
    with pytest.raises(ReleaseError, match="Nothing was sent"):
        ask.get(leak, lambda: work.train(place, request))()
