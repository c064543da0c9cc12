"""Predictions, also for volumes larger than what the network was trained on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.training.evaluate import assess, predict
from prostafed.client.training.feed import Feed
from prostafed.client.training.machine import Machine
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.network import build_network
from prostafed.common.tasks import TASKS, build_task
from prostafed.common.tasks.task import Task

WINDOW, LARGE = (4, 16, 16), (4, 24, 40)
CPU = torch.device("cpu")


def make_cases(size: tuple[int, int, int], count: int = 3) -> CasesInMemory:
    rng = np.random.default_rng(0)
    records = tuple(CaseRecord(f"c{i}", f"p{i}", cspca=bool(i % 2), masks=("lesion", "gland")) for i in range(count))
    arrays = ((rng.normal(size=(3, *size)).astype(np.float16), np.zeros((3, *size), np.uint8)) for _ in records)
    return CasesInMemory(records, tuple(arrays))


def feed(cases: CasesInMemory, chosen: Sequence[int], window: tuple[int, int, int] = WINDOW) -> Feed:
    return Feed(cases, chosen, Grid((3.0, 1.0, 1.0), window), CPU)


@pytest.mark.parametrize("name", ["anatomy", "classify", "lesion"])
@pytest.mark.parametrize("size", [WINDOW, LARGE])
def test_a_map_is_as_large_as_its_volume(name: str, size: tuple[int, int, int]) -> None:
    built = build_task(name)
    network = build_network(
        sequences=3,
        spacing_mm=(3.0, 1.0, 1.0),
        size=WINDOW,
        width=4,
        stages=3,
        norm="instance",
        groups=built.heads,
        seed=0,
        stage=1,
    )
    seen: list[tuple[int, ...]] = []

    def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[2:]))
        return built.outputs(network, images)

    cases, task = make_cases(size), replace(built, outputs=outputs)
    found = dict(predict(network, task, feed(cases, [2, 0]), 2))
    said = assess(network, task, feed(cases, range(3)), 2)
    assert list(found) == [2, 0]
    if built.maps:
        assert set(seen) == {WINDOW}, "the network sees what it was trained on"
        assert all(prediction.shape[-3:] == size for prediction in found.values())
    else:
        assert set(seen) == {size}
    assert [case.case_id for case in said] == ["c0", "c1", "c2"]


def test_windows_agree_with_the_whole_where_each_voxel_is_judged_alone() -> None:
    """A network of one voxel's view: averaging over windows changes nothing."""
    task = replace(build_task("lesion"), outputs=lambda network, images: images[:, :1] * 2 - 1)
    network, cases = nn.ModuleDict({"encoder": nn.Identity()}), make_cases(LARGE)
    whole = dict(predict(network, task, feed(cases, range(3), LARGE), 2))
    parts = dict(predict(network, task, feed(cases, range(3)), 2))
    for index, expected in whole.items():
        np.testing.assert_allclose(parts[index], expected, atol=1e-5)


def test_windows_overlap_by_half_and_their_middles_count_more_than_their_edges() -> None:
    said = iter([4.0, 4.0, -4.0])  # logits of the windows of x 0 to 15, 8 to 23, 16 to 31
    task = replace(build_task("lesion"), outputs=lambda network, images: torch.full_like(images[:, :1], next(said)))
    network, cases = nn.ModuleDict({"encoder": nn.Identity()}), make_cases((4, 16, 32), 1)
    ((_, found),) = predict(network, task, feed(cases, [0]), 1)
    assert next(said, None) is None
    along = found[2, 8]
    assert (along[:16] > 0.9).all()
    assert (along[24:] < 0.1).all()
    assert (np.diff(along[16:24]) < 0).all()
    assert along[19] + along[20] == pytest.approx(1, abs=1e-5)


def test_cases_without_truth_are_left_out() -> None:
    cases = make_cases(WINDOW)
    unknown = CasesInMemory((replace(cases.records[0], cspca=None), *cases.records[1:]), cases.arrays)
    task = replace(
        build_task("classify"),
        outputs=lambda network, images: torch.zeros(len(images)),
        assess=lambda prediction, record, masks, spacing: CasePrediction(record.case_id, "", True, float(prediction)),
    )
    said = assess(nn.ModuleDict(), task, feed(unknown, range(3)), 2)
    assert [(case.case_id, case.score) for case in said] == [("c1", 0.5), ("c2", 0.5)]


def watch(sizes: list[int], dtypes: list[torch.dtype], room: int) -> Task:
    """A task whose network has memory for `room` cases."""

    def outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        sizes.append(len(images))
        if sizes[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = network["head"](images.float().mean(dim=(2, 3, 4)))
        dtypes.append(logits.dtype)
        return logits[:, 0]

    return replace(build_task("classify"), outputs=outputs)


def score(machine: Machine, room: int = 9) -> tuple[list[int], set[torch.dtype], dict[int, float]]:
    torch.manual_seed(0)
    sizes: list[int] = []
    dtypes: list[torch.dtype] = []
    cases, network = make_cases(WINDOW, 7), nn.ModuleDict({"head": nn.Linear(3, 1)})
    found = dict(predict(network, watch(sizes, dtypes, room), feed(cases, range(7)), 6, machine))
    return sizes, set(dtypes), {index: float(prediction) for index, prediction in found.items()}


@pytest.mark.parametrize(
    ("micro_batch", "room", "expected"),
    [
        (0, 9, [6, 1]),
        (3, 9, [3, 3, 1]),
        (0, 4, [6, 3, 3, 1]),
        (0, 1, [6, 3, 1, 1, 1, 1, 1, 1, 1]),
        (3, 2, [3, *[1] * 7]),
    ],
)
def test_cases_at_once_are_those_of_training_and_what_does_not_fit_is_halved(
    micro_batch: int, room: int, expected: list[int]
) -> None:
    sizes, _, found = score(Machine(micro_batch=micro_batch), room)
    assert sizes == expected
    assert found == pytest.approx(score(Machine())[2], abs=1e-6), "every case once, in the same order"


def test_a_case_that_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match="A single case does not fit into the GPU's memory"):
        score(Machine(), room=0)


def test_predictions_are_in_the_precision_of_training_and_their_probabilities_have_all_digits() -> None:
    plain, half = score(Machine()), score(Machine(precision="bf16"))
    assert (plain[1], half[1]) == ({torch.float32}, {torch.bfloat16})
    assert half[2] == pytest.approx(plain[2], abs=0.01)
    for name in TASKS:
        logits = (
            torch.full((3, 1, 1, 1), 0.3).bfloat16() if build_task(name).maps else torch.tensor([0.3] * 3).bfloat16()
        )
        said = build_task(name).predict(logits if name != "classify" else logits[0])
        exact = build_task(name).predict((logits if name != "classify" else logits[0]).float())
        np.testing.assert_array_equal(said, exact, err_msg=name)
