"""What every entry of TASKS promises to training: a batch is the mean of its cases, in whatever parts it passes."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.training import step as stepper
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import Continuation, optimise
from prostafed.client.training.machine import Machine
from prostafed.client.training.objective import finetuning
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.imaging.cases import MASKS, CaseRecord, CasesInMemory, Grid
from prostafed.common.models.network import build_network
from prostafed.common.tasks import TASKS, build_task
from prostafed.common.tasks.task import Task

SIZE, SPACING, COUNT = (4, 16, 16), (3.0, 1.0, 1.0), 8
Gradients = dict[str, Tensor]


def make_cases() -> CasesInMemory:
    """Cases as unlike each other as a site's: lesions of several sizes and none, gland, zones, or both."""
    rng, records, arrays = np.random.default_rng(0), [], []
    for number in range(COUNT):
        drawn = ("gland",) if number % 4 == 1 else ("zones",) if number % 4 == 2 else ("gland", "zones")
        masks = np.zeros((3, *SIZE), np.uint8)
        masks[0, 1:, 2:14, 2:14] = masks[1, 1:, 2:14, 2 : 8 + number] = 1
        masks[1, 1:, 2:8, 2:14] *= 2
        masks[2, 1:3, 4 : 4 + number, 4:8] = number % 3 == 0
        reads = (1 + number % 5, 3)
        records.append(
            CaseRecord(f"c{number}", "", cspca=number % 3 == 0, pirads_reads=reads, masks=(*drawn, "lesion"))
        )
        arrays.append((rng.normal(size=(3, *SIZE)).astype(np.float16), masks))
    assert {name for record in records for name in record.masks} == set(MASKS)
    return CasesInMemory(tuple(records), tuple(arrays))


def in_float64(task: Task) -> tuple[Task, nn.ModuleDict]:
    network = build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=2,
        norm="instance",
        groups=task.heads,
        seed=0,
        stage=1,
    )
    return replace(task, outputs=lambda network, images: task.outputs(network, images.double())), network.double()


def step(name: str, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[Gradients, float]:
    """Take one step of fine-tuning; return this process's gradients before clipping, and its part of the loss."""
    found: Gradients = {}

    def collect(network: nn.Module, machine: Machine) -> None:
        found.update({name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None})

    monkeypatch.setattr(stepper, "sum_gradients", collect)
    monkeypatch.setattr(stepper, "sum_over_ranks", lambda value, *_: value)
    task, network = in_float64(build_task(name))
    settings = Optimisation(1, COUNT, 1e-3, 0.0, 1, "sgd")
    feed = Feed(make_cases(), range(COUNT), Grid(SPACING, SIZE), torch.device("cpu"))
    record = optimise(network, finetuning(task), feed, settings, Continuation(machine))
    return found, record.loss


def assert_same(found: Gradients, loss: float, whole: tuple[Gradients, float]) -> None:
    assert loss == pytest.approx(whole[1], abs=1e-6)
    largest = max(float(each.abs().max()) for each in whole[0].values())
    for name, expected in whole[0].items():
        assert torch.allclose(found[name], expected, rtol=0, atol=1e-6 * largest), name


@pytest.mark.parametrize("name", TASKS)
class TestEveryTask:
    def test_parts_of_any_size_add_up_to_the_whole_batch(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = step(name, Machine(), monkeypatch)
        for micro_batch in range(1, COUNT):
            assert_same(*step(name, Machine(micro_batch=micro_batch), monkeypatch), whole)

    @pytest.mark.parametrize("ranks", [2, 3, 8, 9])
    def test_processes_add_up_to_the_whole_batch(self, name: str, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
        total, loss = defaultdict[str, Tensor](lambda: torch.zeros(())), 0.0
        for rank in range(ranks):
            gradients, part = step(name, Machine(micro_batch=2, rank=rank, ranks=ranks), monkeypatch)
            loss += part
            for parameter, gradient in gradients.items():
                total[parameter] = total[parameter] + gradient
        assert_same(total, loss, step(name, Machine(), monkeypatch))

    def test_what_a_case_costs_depends_on_it_alone(self, name: str) -> None:
        task, network = in_float64(build_task(name))
        cases = make_cases()
        images = torch.from_numpy(np.stack([image for image, _ in cases.arrays]))
        masks = torch.from_numpy(np.stack([drawn for _, drawn in cases.arrays])).float()
        with torch.no_grad():
            logits, target = task.outputs(network, images), task.targets(cases.records, masks)
            together = task.loss(logits, target)
            alone = [task.loss(logits[[case]], target[[case]]) for case in range(COUNT)]
        assert together.shape == (COUNT,)
        assert torch.allclose(together, torch.cat(alone), atol=1e-6)
