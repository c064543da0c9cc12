"""Training with sequences hidden now and then, as a study with `allow_missing` asks for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.rounds import answer as work
from prostafed.client.rounds import phases
from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import TrainingRecord, optimise
from prostafed.client.training.objective import finetuning, pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.augment import find_present
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid
from prostafed.common.shell.configuration import parse
from prostafed.common.ssl import build_method
from prostafed.common.ssl.methods import ConditionalParameters
from prostafed.common.study import Study
from prostafed.common.tasks import build_task

SIZE, SPACING = (4, 8, 8), (3.0, 1.0, 1.0)
SETTINGS = Optimisation(epochs=4, batch_size=16, learning_rate=1e-3, weight_decay=0.0, seed=1)
CPU = torch.device("cpu")


@pytest.fixture
def cases() -> CasesInMemory:
    rng = np.random.default_rng(0)
    records = tuple(CaseRecord(f"c{i}", f"p{i}", cspca=bool(i % 2)) for i in range(32))
    masks = np.zeros((3, *SIZE), np.uint8)
    return CasesInMemory(records, tuple((rng.normal(size=(3, *SIZE)).astype(np.float16), masks) for _ in records))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
@pytest.mark.parametrize("hideable", [(), (2,)])
def test_what_the_network_sees(cases: CasesInMemory, kind: str, hideable: tuple[int, ...]) -> None:
    seen: list[Tensor] = []
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1)})

    def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
        seen.append(find_present(images))
        scale: Tensor = network["encoder"](torch.ones(len(images), 1))
        return scale[:, 0]

    feed = Feed(cases, range(32), Grid(SPACING, SIZE), CPU, hideable)
    if kind == "pretrain":
        method = replace(
            build_method("conditional", ConditionalParameters()),
            outputs=lambda network, views: (outputs(network, views[0]),),
            loss=lambda compared, records: compared[0].sum(),
        )
        learnt = pretraining(method)
    else:
        learnt = finetuning(replace(build_task("classify"), outputs=outputs))
    optimise(network, learnt, feed, SETTINGS)
    present = torch.cat(seen)
    assert present[:, :2].all()
    assert present[:, 2].all() == (not hideable)
    assert present[:, 2].float().mean() > 0.6


def test_the_study_says_which_sequences_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, size = ("t2w", "adc", "hbv"), (8, 16, 16)
    for name in ("a", "b", "c", "d"):
        record = CaseRecord(name, name, sequences=dict.fromkeys(sequences, "acquired"))
        image = np.random.default_rng(0).normal(size=(3, *size)).astype(np.float16)
        (tmp_path / "cases").mkdir(exist_ok=True)
        write_case(tmp_path / "cases", record, image, np.zeros((3, *size), np.uint8), Grid(SPACING, size), sequences)
    (tmp_path / "site.toml").write_text('name = "north"\nprivacy.minimum_cohort = 1\n')
    study = parse(
        {
            "name": "partly",
            "data": {"size": size, "spacing_mm": SPACING, "allow_missing": ["hbv"]},
            "model": {"width": 4, "resolutions": 2},
            "stage": [{"kind": "pretrain", "rounds": 1}],
        },
        Study,
        "test",
    )
    asked: list[object] = []

    def remember(network: object, learnt: object, feed: Feed, *_: object) -> TrainingRecord:
        asked.append(feed.hideable)
        return TrainingRecord(0.0, 1, 1, 0.0)

    monkeypatch.setattr(phases, "optimise", remember)
    place = open_workplace(tmp_path / "site.toml", study.canonical())
    reply = work.answer(place, Request("train", "run", study.hash(), 1, 1))
    assert asked == [[2]]
    assert "encoder.absence.0.weight" in reply.tensors, "what the encoder learns of missing sequences travels with it"
