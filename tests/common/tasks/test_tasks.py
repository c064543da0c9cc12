"""Tasks: losses by hand, and what every entry of TASKS promises."""

import math

import numpy as np
import pytest
import torch

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import build_network
from prostafed.common.tasks import TASKS, build_task
from prostafed.common.tasks.lesion import LESION, LESION_WEIGHT, focal_loss, soft_dice_loss

SIZE = (8, 16, 16)
RECORDS = [CaseRecord("a", "a", cspca=True, masks=("lesion",)), CaseRecord("b", "b", cspca=False, masks=("lesion",))]


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), math.log(3.0)]])  # probability 3/4
    target = torch.tensor([[1.0, 0.0]])
    hit = LESION_WEIGHT * (1 / 4) * -math.log(3 / 4)
    miss = (1 - LESION_WEIGHT) * (3 / 4) * -math.log(1 / 4)
    assert focal_loss(logits, target).item() == pytest.approx((hit + miss) / 2)


def test_dice_loss_is_nearly_nothing_when_right_and_nearly_one_when_wrong() -> None:
    target = (torch.arange(1000) < 100).float()
    sure = torch.where(target > 0, 30.0, -30.0)
    assert soft_dice_loss(sure, target).item() == pytest.approx(0.0, abs=1e-5)
    assert soft_dice_loss(-sure, target).item() == pytest.approx(1 - 1 / 1001, abs=1e-5)


def test_a_case_without_its_truth_is_not_used() -> None:
    assert not build_task("classify").usable(CaseRecord("a", "a"))
    assert not build_task("lesion").usable(CaseRecord("a", "a", cspca=True, masks=("gland",)))
    assert build_task("lesion").usable(RECORDS[0])


def test_a_detection_map_is_assessed_by_its_candidates() -> None:
    masks = np.zeros((3, *SIZE), np.uint8)
    masks[LESION, 2:5, 4:8, 4:8] = 1
    detection_map = masks[LESION].astype(np.float32) * 0.8
    found = build_task("lesion").assess(detection_map, RECORDS[0], masks, (3.6, 1.5, 1.5))
    assert (found.label, found.score, found.lesions) == (True, pytest.approx(0.8), 1)
    assert found.detections == ((pytest.approx(0.8), True),)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_learns_a_toy_case_and_says_so(name: str) -> None:
    task = build_task(name)
    network = build_network(
        sequences=3,
        spacing_mm=(3.6, 1.5, 1.5),
        size=SIZE,
        width=4,
        stages=3,
        norm="instance",
        groups=task.heads,
        seed=0,
        stage=1,
    )
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 3, *SIZE)
    masks[0, LESION, 2:5, 4:8, 4:8] = 1
    images[0, :, 2:5, 4:8, 4:8] += 3
    optimiser, target = torch.optim.Adam(network.parameters(), lr=1e-2), task.targets(RECORDS, masks)
    first = task.loss(task.outputs(network, images), target).item()
    for _ in range(30):
        optimiser.zero_grad()
        task.loss(task.outputs(network, images), target).backward()
        optimiser.step()
    outputs = task.outputs(network, images).detach()
    assert task.loss(outputs, target).item() < 0.7 * first
    said = [
        task.assess(task.predict(logits), record, mask, (3.6, 1.5, 1.5))
        for logits, record, mask in zip(outputs, RECORDS, masks.to(torch.uint8).numpy(), strict=True)
    ]
    assert said[0].score > said[1].score
    assert [prediction.label for prediction in said] == [True, False]
