"""Fine-tuning: what is trained and how fast, alone and in a federation, and label budgets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.rounds import answer as work
from prostafed.client.rounds import phases
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.starting import load_network
from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.training import objective
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import TrainingRecord, optimise
from prostafed.client.training.objective import finetuning
from prostafed.client.training.optimisers import Optimisation, Tuning, decay_layers
from prostafed.common.aggregation import NoParameters
from prostafed.common.exchange.messages import Request
from prostafed.common.imaging.augment import Augmentation, apply_augmentation, apply_geometry, draw_augmentation
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid
from prostafed.common.models.network import build_network
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tasks import build_task
from prostafed.common.tensors import Tensors, group_of, read_tensors, select_groups
from prostafed.server.aggregation import build_aggregator
from prostafed.server.aggregation.aggregator import Update

SIZE, SPACING = (4, 16, 16), (3.0, 1.0, 1.0)
SEQUENCES = ("t2w", "adc", "hbv")
SETTINGS = Optimisation(epochs=2, batch_size=4, learning_rate=1e-2, weight_decay=1e-2, seed=1)
CPU = torch.device("cpu")
LEARNT = finetuning(build_task("classify"))


def make_case(index: int) -> tuple[CaseRecord, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(index)
    sequences = dict.fromkeys(SEQUENCES, "acquired")
    record = CaseRecord(
        f"c{index}", f"p{index}", cspca=bool(index % 2), pirads_reads=(2, 4), masks=("gland",), sequences=sequences
    )
    return record, rng.normal(size=(3, *SIZE)).astype(np.float16), np.ones((3, *SIZE), np.uint8)


@pytest.fixture
def cases() -> CasesInMemory:
    made = [make_case(index) for index in range(8)]
    return CasesInMemory(tuple(case[0] for case in made), tuple((case[1], case[2]) for case in made))


def make_network(tolerant: bool = False) -> nn.ModuleDict:
    return build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=3,
        norm="instance",
        groups=build_task("classify").heads,
        seed=0,
        stage=1,
        tolerant=tolerant,
    )


def train(cases: CasesInMemory, tuning: Tuning, settings: Optimisation = SETTINGS) -> tuple[Tensors, Tensors]:
    network = make_network()
    before = read_tensors(network)
    optimise(network, LEARNT, Feed(cases, range(8), Grid(SPACING, SIZE), CPU), replace(settings, tuning=tuning))
    return before, read_tensors(network)


def test_a_frozen_encoder_keeps_every_bit_and_the_head_learns(cases: CasesInMemory) -> None:
    before, after = train(cases, Tuning(frozen=True))
    for name, array in before.items():
        same = array.tobytes() == after[name].tobytes()
        assert same == (group_of(name) == "encoder"), name


def test_frozen_heads_keep_every_bit_and_the_encoder_learns(cases: CasesInMemory) -> None:
    before, after = train(cases, Tuning(frozen_heads=True))
    for name, array in before.items():
        if group_of(name) != "encoder":
            assert array.tobytes() == after[name].tobytes(), name
    assert any(array.tobytes() != after[name].tobytes() for name, array in before.items())


def test_a_thawed_encoder_learns_again(cases: CasesInMemory) -> None:
    network = make_network()
    for frozen in (True, False):
        before = read_tensors(network)["encoder.stages.0.conv.unit0.conv.weight"]
        tuned = replace(SETTINGS, tuning=Tuning(frozen=frozen))
        optimise(network, LEARNT, Feed(cases, range(8), Grid(SPACING, SIZE), CPU), tuned)
        after = read_tensors(network)["encoder.stages.0.conv.unit0.conv.weight"]
        assert np.array_equal(before, after) == frozen


@pytest.mark.parametrize("tolerant", [False, True])
def test_the_learning_rate_falls_from_the_head_to_the_first_stage(tolerant: bool) -> None:
    network = make_network(tolerant)
    groups = decay_layers(network, 1.0, 0.5)
    assert [group["lr"] for group in groups] == [1.0, 1 / 8, 1 / 4, 1 / 2]
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [[named[id(parameter)] for parameter in group["params"]] for group in groups]
    assert sorted(name for group in found for name in group) == sorted(named.values()), "each parameter once"
    assert all(name.startswith("head.") for name in found[0])
    for number, group in enumerate(found[1:]):
        assert all(
            name.split(".")[:3] in ([["encoder", part, str(number)] for part in ("stages", "absence")])
            for name in group
        )
        assert any("absence" in name for name in group) == tolerant


def test_a_lower_stage_moves_less(cases: CasesInMemory) -> None:
    one_step = replace(SETTINGS, epochs=1, batch_size=8, weight_decay=0.0)  # Adam's first step is the learning rate
    before, after = train(cases, Tuning(layer_decay=0.1), one_step)
    for part, rate in (
        ("head", 1e-2),
        ("encoder.stages.2", 1e-3),
        ("encoder.stages.1", 1e-4),
        ("encoder.stages.0", 1e-5),
    ):
        steps = [np.abs(after[name] - before[name]).max() for name in before if name.startswith(part)]
        assert max(steps) == pytest.approx(rate, rel=0.05), part


def test_no_decay_is_plain_training(cases: CasesInMemory) -> None:
    plain, almost = train(cases, Tuning())[1], train(cases, Tuning(layer_decay=1 - 1e-12))[1]
    for name, array in plain.items():
        np.testing.assert_allclose(array, almost[name], atol=1e-6)


def test_images_are_augmented_anew_in_every_epoch_and_masks_move_along(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image, masks = rng.normal(size=(3, *SIZE)).astype(np.float16), rng.integers(0, 3, (3, *SIZE)).astype(np.uint8)
    cases = CasesInMemory((CaseRecord("c", "p", cspca=True, masks=("lesion",)),), ((image, masks),))
    drawn: list[Augmentation] = []
    seen: list[Tensor] = []
    learnt: list[Tensor] = []

    def draw(*arguments: Any) -> Augmentation:
        drawn.append(draw_augmentation(*arguments))
        return drawn[-1]

    def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
        seen.append(images)
        return network["head"].weight.sum() * images[:, 0]  # type: ignore[no-any-return, operator, union-attr]

    def targets(records: object, masks: Tensor) -> Tensor:
        learnt.append(masks)
        return masks

    monkeypatch.setattr(objective, "draw_augmentation", draw)
    task = replace(build_task("lesion"), outputs=outputs, targets=targets, loss=lambda logits, _: logits.mean()[None])
    network = nn.ModuleDict({"encoder": nn.Identity(), "head": nn.Linear(1, 1)})
    feed = Feed(cases, [0], Grid(SPACING, SIZE), CPU)
    optimise(network, finetuning(task), feed, replace(SETTINGS, epochs=3))
    given, whole = torch.from_numpy(image)[None].float(), torch.from_numpy(masks)[None].float()
    assert len(drawn) == 3
    assert len({tuple(images.flatten().tolist()) for images in [given, *seen]}) == 4
    for draws, images, moved in zip(drawn, seen, learnt, strict=True):
        assert torch.equal(images, apply_augmentation(given, draws))
        assert torch.equal(moved, apply_geometry(whole, draws, mode="nearest"))
        assert not torch.equal(moved, whole)
        assert set(moved.unique().tolist()) == {0.0, 1.0, 2.0}, "no mask between two labels"


def make_study(**keys: Any) -> Study:
    stage = {"kind": "finetune", "task": "classify", "rounds": 3, "batch_size": 4, "learning_rate": 1e-2, **keys}
    return parse(
        {
            "name": "modes",
            "data": {"size": SIZE, "spacing_mm": SPACING, "validation_fraction": 0.1, "test_fraction": 0.1},
            "model": {"width": 4, "resolutions": 3},
            "stage": [stage],
        },
        Study,
        "test",
    )


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    files = []
    for number, name in enumerate(("north", "south")):
        folder = tmp_path / name
        (folder / "cases").mkdir(parents=True)
        for index in range(20):
            record, image, masks = make_case(100 * number + index)
            write_case(folder / "cases", record, image, masks, Grid(SPACING, SIZE), SEQUENCES)
        (folder / "site.toml").write_text(f'name = "{name}"\nminimum_cell = 1\nprivacy.minimum_cohort = 1\n')
        files.append(folder / "site.toml")
    return files


def run_rounds(study: Study, sites: list[Path], rounds: int) -> list[tuple[Tensors, list[Tensors]]]:
    """Federate `rounds` rounds; return the encoder after each, and what each site kept of it."""
    tensors = select_groups(read_tensors(build_stage_network(study, 1)), ("encoder",))
    done = []
    for number in range(1, rounds + 1):
        aggregator = build_aggregator("fedavg", NoParameters())
        state = aggregator.init(tensors, {})
        for site in sites:
            place = open_workplace(site, study.canonical())
            reply = work.answer(place, Request("train", "run", study.hash(), 1, number, tensors))
            state = aggregator.add(state, Update(reply.site, reply.cases, 1, reply.tensors))
        tensors = aggregator.finish(state).tensors
        asked = Request("evaluate", "run", study.hash(), 1, number, tensors)
        kept = [load_network(open_job(open_workplace(site, study.canonical()), asked), number) for site in sites]
        done.append((tensors, [select_groups(read_tensors(network), ("head",)) for network in kept]))
    return done


def equal(one: Tensors, other: Tensors) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_a_probe_federates_nothing_the_encoder_comes_back_as_it_went_and_heads_differ(sites: list[Path]) -> None:
    study = make_study(mode="probe")
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ("encoder",))
    (first, heads), (second, later) = run_rounds(study, sites, 2)
    assert equal(sent, first)
    assert equal(sent, second)
    assert not equal(heads[0], heads[1]), "each site has a head of its own"
    assert not equal(heads[0], later[0]), "which goes on learning"


def test_a_probe_alone_learns_what_it_learns_beside_others(sites: list[Path], tmp_path: Path) -> None:
    study = make_study(mode="probe")
    together = run_rounds(study, sites, 1)[0][1][0]
    (sites[0].parent / "memory").rename(tmp_path / "elsewhere")
    assert equal(run_rounds(study, sites[:1], 1)[0][1][0], together)


def test_a_gradual_stage_thaws_after_its_frozen_rounds(sites: list[Path]) -> None:
    study = make_study(mode="gradual", frozen_rounds=2)
    sent = select_groups(read_tensors(build_stage_network(study, 1)), ("encoder",))
    encoders = [tensors for tensors, _ in run_rounds(study, sites, 3)]
    assert [equal(sent, encoder) for encoder in encoders] == [True, True, False]


@pytest.mark.parametrize(("share", "expected"), [(1.0, 16), (0.5, 8), (0.01, 2)])
def test_the_study_says_how_many_labels_a_site_uses(
    sites: list[Path], monkeypatch: pytest.MonkeyPatch, share: float, expected: int
) -> None:
    asked: list[list[int]] = []
    tuned: list[object] = []

    def remember(network: object, learnt: object, feed: Feed, settings: Optimisation, *_: object) -> TrainingRecord:
        asked.append(list(feed.chosen))
        tuned.append(settings.tuning)
        return TrainingRecord(0.0, len(feed.chosen), 1, 0.0)

    monkeypatch.setattr(phases, "optimise", remember)
    study = make_study(labels=share, layer_decay=0.5)
    place = open_workplace(sites[0], study.canonical())
    reply = work.answer(place, Request("train", "run", study.hash(), 1, 1))
    assert reply.cases == len(asked[0]) == expected, "the site weighs as much as it has labels"
    assert set(asked[0]) <= set(place.splits["train"])
    assert {place.cases.records[index].cspca for index in asked[0]} == {True, False}
    assert tuned == [Tuning(frozen=False, layer_decay=0.5)]


@pytest.mark.parametrize(("task", "counted"), [("classify", True), ("pirads", True), ("anatomy", False)])
def test_a_task_that_does_not_judge_cancer_counts_none(sites: list[Path], task: str, counted: bool) -> None:
    study = make_study(task=task, rounds=1)
    tensors = select_groups(read_tensors(build_stage_network(study, 1)), ("encoder",))
    place, request = (
        open_workplace(sites[0], study.canonical()),
        Request("train", "run", study.hash(), 1, 1, tensors),
    )
    work.answer(place, request)
    reply = work.answer(place, replace(request, action="evaluate", splits=("test",)))
    assert reply.metrics["test/n"] == 2
    assert ("test/positives" in reply.metrics) == counted
    assert ("test/gland_dice" in reply.metrics) != counted
