"""Predictions, also for volumes larger than what the network was trained on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.client.training.evaluate import assess, predict
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.network import build_network
from prostafed.common.tasks import build_task

WINDOW, LARGE = (4, 16, 16), (4, 24, 40)
CPU = torch.device("cpu")


def make_cases(size: tuple[int, int, int]) -> CasesInMemory:
    rng = np.random.default_rng(0)
    records = tuple(CaseRecord(f"c{i}", f"p{i}", cspca=bool(i % 2), masks=("lesion", "gland")) for i in range(3))
    arrays = ((rng.normal(size=(3, *size)).astype(np.float16), np.zeros((3, *size), np.uint8)) for _ in records)
    return CasesInMemory(records, tuple(arrays))


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
    found = dict(predict(network, task, cases, [2, 0], 2, CPU, WINDOW))
    said = assess(network, task, cases, range(3), (3.0, 1.0, 1.0), 2, CPU, WINDOW)
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
    whole = dict(predict(network, task, cases, range(3), 2, CPU))
    parts = dict(predict(network, task, cases, range(3), 2, CPU, WINDOW))
    for index, expected in whole.items():
        np.testing.assert_allclose(parts[index], expected, atol=1e-5)


def test_cases_without_truth_are_left_out() -> None:
    cases = make_cases(WINDOW)
    unknown = CasesInMemory((replace(cases.records[0], cspca=None), *cases.records[1:]), cases.arrays)
    task = replace(
        build_task("classify"),
        outputs=lambda network, images: torch.zeros(len(images)),
        assess=lambda prediction, record, masks, spacing: CasePrediction(record.case_id, "", True, float(prediction)),
    )
    said = assess(nn.ModuleDict(), task, unknown, range(3), (3.0, 1.0, 1.0), 2, CPU)
    assert [(case.case_id, case.score) for case in said] == [("c1", 0.5), ("c2", 0.5)]
