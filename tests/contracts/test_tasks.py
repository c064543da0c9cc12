"""What every entry of TASKS promises, a user's own among them.

To training: a batch is the mean of its cases, in whatever parts it passes. To who is told of it: every fact that its
record states is so.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

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
from prostafed.common.bundle.card import describe_output, describe_use, list_limits
from prostafed.common.bundle.monai_files import make_metadata
from prostafed.common.bundle.network import Forward, check_answers, make_rule
from prostafed.common.bundle.record import Thresholds, describe
from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.released import is_released
from prostafed.common.imaging.cases import MASKS, CaseRecord, CasesInMemory, Grid
from prostafed.common.metrics.summary import summarise
from prostafed.common.models.network import build_network
from prostafed.common.tasks import TASKS, TaskEntry, build_task, list_measures
from prostafed.common.tasks.answer import Answer
from prostafed.common.tasks.task import Task
from prostafed.server.report.vocabulary import metric_of
from tests.common.bundle.tiny_bundle import make_bundle, make_study

SIZE, SPACING, COUNT = (4, 16, 16), (3.0, 1.0, 1.0), 8
Gradients = dict[str, Tensor]
OWN = TaskEntry("tests.entries.volume", "the volume of the prostate, as reported")


@pytest.fixture(autouse=True)
def own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "volume", OWN)


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
            CaseRecord(
                f"c{number}",
                "",
                cspca=number % 3 == 0,
                pirads_reads=reads,
                prostate_volume=20.0 + 10 * number,
                masks=(*drawn, "lesion"),
            )
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


@pytest.mark.parametrize("name", [*TASKS, "volume"])
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

    def test_logits_have_its_channels_and_answers_are_of_its_kind(self, name: str) -> None:
        study = make_study(name)
        check_answers(Forward(study, 1), name, make_rule(Thresholds(), study.data.spacing_mm))

    def test_what_it_is_judged_by_is_measured_shown_and_may_leave(self, name: str) -> None:
        task, cases = build_task(name), make_cases()
        network, predictions = in_float64(task)[1].float(), []
        for record, (image, masks) in zip(cases.records, cases.arrays, strict=True):
            with torch.no_grad():
                (logits,) = task.outputs(network, torch.from_numpy(image).float()[None])
            predictions.append(task.assess(task.predict(logits), record, masks, SPACING))
        assert {measure for each in predictions for measure in each.measures} == set(task.measures)
        assert all((each.score is not None) == task.judges_cspca for each in predictions)
        told = summarise(predictions, seed=0)
        assert set(task.metrics) <= set(told)
        assert all(is_released(f"test/{metric}", value) for metric, value in told.items())
        for metric in task.metrics:
            assert metric_of(metric).label != metric
            assert metric_of(metric).meaning

    def test_its_measures_are_nobody_elses(self, name: str) -> None:
        others = list_measures(each for each in TASKS if each != name)
        assert not {each for each in build_task(name).measures if each in others}

    def test_it_is_described(self, name: str) -> None:
        task, study = build_task(name), make_study(name)
        assert TASKS[name].annotation in describe_use(name)
        assert describe_output(name, Thresholds()).startswith(task.says)
        assert ("confidence" in describe_output(name, Thresholds())) == (task.kind == "heat map")
        assert ("Scores are not" in list_limits(name)) == task.judges_cspca
        metadata = make_metadata(describe(study, 1), "1", "nobody", 0.0)
        assert metadata["task"] == task.sentence
        output = metadata["network_data_format"]["outputs"]["pred"]
        assert list(output["channel_def"].values()) == list(task.channels)
        assert (output["type"] == "image") == task.maps
        assert (output["type"] == "probabilities") == (task.kind == "score")

    def test_its_targets_tell_who_has_cspca_where_it_says_so(self, name: str) -> None:
        task, cases = build_task(name), make_cases()
        masks = torch.from_numpy(np.stack([drawn for _, drawn in cases.arrays]))
        other, blank = [replace(record, cspca=not record.cspca) for record in cases.records], masks.clone()
        blank[:, MASKS.index("lesion")] = 0
        same = torch.equal(task.targets(cases.records, masks), task.targets(other, blank))
        assert same != task.teaches_cspca


def wrong(**facts: object) -> Callable[[], Task]:
    return lambda: replace(volume, **facts)  # type: ignore[arg-type]


volume = import_module(OWN.module).build()
ERROR = volume.measures["volume_error_ml"]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (wrong(metrics=("auroc",)), "expected metrics among volume_error_ml, found 'auroc'"),
        (wrong(metrics=("volume_eror_ml",)), "expected metrics among volume_error_ml, found 'volume_eror_ml'"),
        (wrong(metrics=()), r"expected 'metrics' to say something, found \(\)"),
        (wrong(channels=("",)), "expected 'channels' to say something"),
        (wrong(sentence=""), "expected 'sentence' to say something, found ''"),
        (wrong(says=""), "expected 'says' to say something, found ''"),
        (wrong(kind="number"), "a kind of answer among score, heat map, structures, quantities, found 'number'"),
        (wrong(measures={"auroc": ERROR, **volume.measures}), "name in small letters that no other has, found 'auroc'"),
        (wrong(measures={"test/n": ERROR, **volume.measures}), "name in small letters that no other has, found 'test"),
        (wrong(measures={"volume_error_ml": replace(ERROR, label="")}), "to have a label, a meaning and a range"),
        (wrong(measures={"volume_error_ml": replace(ERROR, most=np.inf)}), "to have a label, a meaning and a range"),
        (lambda: Task(heads={}), "missing 13 required positional arguments: 'usable', 'targets'"),  # type: ignore[call-arg]
        (lambda: None, "'NoneType' object has no attribute 'check'"),
    ],
)
def test_an_entry_that_lacks_a_fact_or_says_an_impossible_one_is_a_sentence(
    build: Callable[[], Task], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module(OWN.module), "build", build)
    with pytest.raises(ConfigurationError, match=f"^The task 'volume' cannot be used: .*{said}") as found:
        build_task("volume")
    assert "\n" not in str(found.value)
    assert str(found.value).endswith(" Correct tests.entries.volume, or its line in TASKS.")


@pytest.mark.parametrize("module", ["tests.entries.nowhere", "tests.entries"])
def test_an_entry_without_its_module_is_a_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "volume", TaskEntry(module, "nothing"))
    with pytest.raises(ConfigurationError, match=rf"'volume' cannot be used: .*Correct {module}, or its line in TASKS"):
        build_task("volume")


def test_a_name_that_is_not_listed_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="found 'volum'; did you mean 'volume'"):
        build_task("volum")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"read": lambda volume, rule: Answer(float(volume) % 1)}, "of the kind 'quantities', found one of score"),
        ({"kind": "score", "metrics": ("auroc",)}, "of the kind 'score', found one of 1 quantities"),
        ({"channels": ("volume", "deviation")}, r"logits of its 2 channels, found \(1,\)"),
        ({"kind": "structures"}, r"logits of its 1 channels, found \(1,\)"),
    ],
)
def test_an_answer_that_is_not_what_the_entry_says_is_not_exported(
    facts: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(import_module(OWN.module), "build", wrong(**facts))
    with pytest.raises(ConfigurationError, match=f"^The task 'volume' does not answer as it says: .*{said}"):
        make_bundle(tmp_path / "wrong", make_study("volume"))
    assert not list(tmp_path.iterdir())
