"""A round of pretraining at a site, and what follows the network without being trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prostafed.client.rounds import answer as work
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.starting import load_network
from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import Continuation, TrainingRecord, optimise
from prostafed.client.training.machine import Machine
from prostafed.client.training.objective import pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import MASKS, CaseRecord, CasesInMemory, Grid
from prostafed.common.models.network import build_network
from prostafed.common.shell.configuration import parse
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.ssl.method import Method, Views
from prostafed.common.ssl.methods import ByolParameters, MocoParameters
from prostafed.common.ssl.targets import follow
from prostafed.common.study import Study
from prostafed.common.tensors import group_of

SPACING, SIZE = (3.6, 1.5, 1.5), (8, 16, 16)


@dataclass(frozen=True)
class Round:
    network: torch.nn.ModuleDict
    record: TrainingRecord
    steps: list[int]
    before: dict[str, torch.Tensor]


def make_cases(count: int) -> CasesInMemory:
    random = np.random.default_rng(0)
    images = [random.normal(size=(2, *SIZE)).astype(np.float16) for _ in range(count)]
    masks = np.zeros((len(MASKS), *SIZE), dtype=np.uint8)
    records = tuple(CaseRecord(str(i), str(i), pirads_reads=(2 + i % 4,)) for i in range(count))
    return CasesInMemory(records, tuple((image, masks) for image in images))


def feed_cases(count: int) -> Feed:
    return Feed(make_cases(count), range(count), Grid(SPACING, SIZE), torch.device("cpu"))


def make_network(method: Method) -> torch.nn.ModuleDict:
    network = build_network(
        sequences=2,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=2,
        norm="instance",
        groups=method.heads,
        seed=0,
        stage=1,
    )
    follow(network, method.targets, momentum=0.0)
    return network


def train_round(name: str, parameters: object, cases: int = 4) -> Round:
    method = build_method(name, parameters)  # type: ignore[arg-type]
    network = make_network(method)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    steps: list[int] = []
    settings = Optimisation(epochs=1, batch_size=2, learning_rate=1e-2, weight_decay=0.0, seed=1)
    record = optimise(
        network, pretraining(method), feed_cases(cases), settings, on_step=lambda step, *_: steps.append(step)
    )
    return Round(network, record, steps, before)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_a_round(name: str) -> None:
    done = train_round(name, METHODS[name].parameters())
    assert done.steps == [1, 2]
    assert np.isfinite(done.record.loss)
    encoder = "encoder.stages.0.conv.unit0.conv.weight"
    assert not torch.equal(done.network.state_dict()[encoder], done.before[encoder])


def test_the_target_moves_after_every_step_and_less_than_what_it_follows() -> None:
    done = train_round("byol", ByolParameters(momentum=0.9))
    name = "projection.layers.0.weight"
    after = done.network.state_dict()
    moved, followed = after[f"target_{name}"] - done.before[name], after[name] - done.before[name]
    assert 0 < moved.norm() < 0.5 * followed.norm()
    once = train_round("byol", ByolParameters(momentum=0.9), cases=2)
    after = once.network.state_dict()
    assert torch.allclose(after[f"target_{name}"], 0.9 * once.before[name] + 0.1 * after[name], atol=1e-6)


def test_the_queue_holds_the_keys_of_every_step() -> None:
    done = train_round("moco", MocoParameters(queue_size=6))
    queue = done.network.state_dict()["queue.keys"]
    assert torch.equal(queue[4:], done.before["queue.keys"][:2])
    assert not any((queue[i] == old).all() for i in range(4) for old in done.before["queue.keys"])


def test_distances_are_measured_with_all_digits_whatever_the_precision_of_the_network() -> None:
    built, seen = build_method("byol", ByolParameters()), []
    network = make_network(built)

    def outputs(network: torch.nn.ModuleDict, views: Views) -> Views:
        seen.append(torch.is_autocast_enabled("cpu"))
        return built.outputs(network, views)

    def loss(compared: Views, records: Sequence[CaseRecord]) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return built.loss(compared, records)

    settings = Optimisation(epochs=1, batch_size=2, learning_rate=1e-2, weight_decay=0.0, seed=1)
    learnt = pretraining(replace(built, outputs=outputs, loss=loss))
    optimise(network, learnt, feed_cases(2), settings, Continuation(Machine(precision="bf16")))
    assert seen == [True, False]


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    cases, sequences = make_cases(4), ("t2w", "adc")
    (tmp_path / "cases").mkdir()
    for record, (image, masks) in zip(cases.records, cases.arrays, strict=True):
        complete = replace(record, sequences=dict.fromkeys(sequences, "acquired"))
        write_case(tmp_path / "cases", complete, image, masks, Grid(SPACING, SIZE), sequences)
    (tmp_path / "site.toml").write_text('name = "north"\nprivacy.minimum_cohort = 1\n')
    study = {
        "name": "targets",
        "data": {"size": SIZE, "spacing_mm": SPACING, "sequences": sequences},
        "model": {"width": 4, "resolutions": 2},
        "stage": [{"kind": "pretrain", "rounds": 3, "method": "byol"}],
    }
    return open_workplace(tmp_path / "site.toml", parse(study, Study, "test").canonical())


def test_targets_start_as_what_was_sent_then_stay_at_the_site(workplace: Workplace) -> None:
    study = workplace.study
    first = work.answer(workplace, Request("train", "run", study.hash(), 1, 1))
    assert {group_of(name) for name in first.tensors} == {"encoder", "projection"}
    averaged = {name: array + 1 for name, array in first.tensors.items()}  # what other sites made of it
    asked = Request("train", "run", study.hash(), 1, 2, averaged)
    name = "encoder.stages.0.conv.unit0.conv.weight"

    kept = load_network(open_job(workplace, asked), memory_round=1).state_dict()
    assert np.array_equal(kept[name].numpy(), averaged[name])
    assert not np.array_equal(kept[f"target_{name}"].numpy(), averaged[name])
    assert np.allclose(kept[f"target_{name}"].numpy(), first.tensors[name], atol=0.05)

    new = load_network(open_job(workplace, asked), memory_round=0).state_dict()  # a site that joins now
    for tensor, array in averaged.items():
        assert np.array_equal(new[f"target_{tensor}"].numpy(), array)
