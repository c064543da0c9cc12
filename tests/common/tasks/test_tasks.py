"""What every entry of TASKS promises."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prostafed.common.imaging.cases import MASKS, CaseRecord
from prostafed.common.metrics.summary import summarise
from prostafed.common.models.network import build_network
from prostafed.common.tasks import TASKS, build_task
from prostafed.common.tasks.lesion import LESION
from prostafed.common.tasks.task import Task
from prostafed.server.report.vocabulary import metric_of

SIZE, SPACING = (8, 16, 16), (3.6, 1.5, 1.5)
RECORDS = [
    CaseRecord("a", "a", cspca=True, pirads_reads=(4, 5), masks=MASKS),
    CaseRecord("b", "b", cspca=False, pirads_reads=(2, 2), masks=MASKS),
]


def make(name: str) -> tuple[Task, nn.ModuleDict]:
    task = build_task(name)
    network = build_network(
        sequences=3,
        spacing_mm=SPACING,
        size=SIZE,
        width=4,
        stages=3,
        norm="instance",
        groups=task.heads,
        seed=0,
        stage=1,
    )
    return task, network


def make_toy() -> tuple[Tensor, Tensor]:
    """Images and masks of RECORDS: the first shows a lesion, both a gland of two zones."""
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 3, *SIZE)
    masks[:, MASKS.index("gland"), 1:7, 2:14, 2:14] = 1
    masks[:, MASKS.index("zones"), 1:7, 2:14, 2:14] = 1
    masks[:, MASKS.index("zones"), 1:7, 2:9, 2:14] = 2
    masks[0, LESION, 2:5, 4:8, 4:8] = 1
    images += masks[:, [MASKS.index("zones")]]
    images[0, :, 2:5, 4:8, 4:8] += 3
    return images, masks


def test_a_case_without_its_truth_is_not_used() -> None:
    assert not build_task("classify").usable(CaseRecord("a", "a"))
    assert not build_task("lesion").usable(CaseRecord("a", "a", cspca=True, masks=("gland",)))
    assert not build_task("lesion").usable(CaseRecord("a", "a", masks=("lesion",)))
    assert build_task("lesion").usable(RECORDS[0])


def test_a_detection_map_is_assessed_by_its_candidates() -> None:
    masks = np.zeros((3, *SIZE), np.uint8)
    masks[LESION, 2:5, 4:8, 4:8] = 1
    detection_map = masks[LESION].astype(np.float32) * 0.8
    found = build_task("lesion").assess(detection_map, RECORDS[0], masks, SPACING)
    assert (found.label, found.score, found.lesions) == (True, pytest.approx(0.8), 1)
    assert found.detections == ((pytest.approx(0.8), True),)


@pytest.mark.parametrize(("voxels", "found"), [(8, True), (7, False)])
def test_a_candidate_is_larger_than_seven_and_a_half_cubic_millimetres(voxels: int, found: bool) -> None:
    detection_map = np.zeros((1, 1, 20), np.float32)
    detection_map[0, 0, :voxels] = 0.8
    said = build_task("lesion").assess(detection_map, RECORDS[0], np.zeros((3, 1, 1, 20), np.uint8), (1.0, 1.0, 1.0))
    assert bool(said.detections) == found


def test_an_untrained_classifier_says_how_common_cancer_is() -> None:
    task, network = make("classify")
    images = torch.randn(16, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = task.outputs(network, images).sigmoid().mean().item()
        flat = network["head"](torch.zeros(1, network["encoder"].vector_size)).sigmoid().item()  # type: ignore[operator, arg-type]
    assert flat == pytest.approx(0.28)
    assert 0.1 < said < 0.5


def test_an_untrained_grader_says_how_common_grades_are() -> None:
    head, size = make("pirads")[1]["head"], make("pirads")[1]["encoder"].vector_size
    said = head(torch.zeros(1, size)).sigmoid()  # type: ignore[arg-type]
    assert said.tolist()[0] == pytest.approx([884 / 1500, 733 / 1500, 381 / 1500])


def test_an_untrained_detector_says_how_rare_lesions_are() -> None:
    head = make("lesion")[1]["head"]
    last = dict(head.named_parameters())
    bias = last[[name for name in last if name.endswith("bias")][-1]]
    assert bias.sigmoid().tolist() == pytest.approx([0.01])


@pytest.mark.parametrize("name", TASKS)
class TestEveryTask:
    def test_it_learns_a_toy_set_and_says_so(self, name: str) -> None:
        task, network = make(name)
        images, masks = make_toy()
        optimiser, target = torch.optim.Adam(network.parameters(), lr=1e-2), task.targets(RECORDS, masks)
        first = task.loss(task.outputs(network, images), target).mean().item()
        for _ in range(30):
            optimiser.zero_grad()
            task.loss(task.outputs(network, images), target).mean().backward()
            optimiser.step()
        outputs = task.outputs(network, images).detach()
        assert task.loss(outputs, target).mean().item() < 0.7 * first
        said = [
            task.assess(task.predict(logits), record, mask, SPACING)
            for logits, record, mask in zip(outputs, RECORDS, masks.to(torch.uint8).numpy(), strict=True)
        ]
        if said[0].score is None or said[1].score is None:
            assert all(case.measures["gland_dice"] > 0.8 for case in said)
        else:
            assert said[0].score > said[1].score
            assert [case.label for case in said] == [True, False]

    def test_maps_lie_on_the_grid_of_the_images_and_predictions_in_the_unit_range(self, name: str) -> None:
        task, network = make(name)
        logits = task.outputs(network, make_toy()[0]).detach()
        assert len(logits) == 2
        assert (logits.shape[2:] == SIZE) == task.maps
        prediction = task.predict(logits[0])
        assert prediction.dtype == np.float32
        assert prediction.min() >= 0
        assert prediction.max() <= 1

    @pytest.mark.parametrize("known", [0, 1])
    def test_a_batch_of_one_and_a_batch_of_one_kind_have_finite_gradients(self, name: str, known: int) -> None:
        task, network = make(name)
        images, masks = make_toy()
        for count in (1, 2):
            target = task.targets([RECORDS[known]] * count, masks[[known] * count])
            loss = task.loss(task.outputs(network, images[:count]), target).mean()
            loss.backward()
            assert torch.isfinite(loss)
            assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())

    def test_half_precision_gives_about_the_same_loss(self, name: str) -> None:
        task, network = make(name)
        images, masks = make_toy()
        target = task.targets(RECORDS, masks)
        exact = task.loss(task.outputs(network, images), target).mean().item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = task.loss(task.outputs(network, images), target).mean()
        assert loss.item() == pytest.approx(exact, rel=0.05)

    def test_a_missing_sequence_is_borne(self, name: str) -> None:
        task, network = make(name)
        images, masks = make_toy()
        images[:, 1] = 0
        assert torch.isfinite(task.loss(task.outputs(network, images), task.targets(RECORDS, masks))).all()

    def test_every_metric_it_is_judged_by_is_measured_and_has_a_name(self, name: str) -> None:
        task, network = make(name)
        images, masks = make_toy()
        with torch.no_grad():
            outputs = task.outputs(network, images)
        said = [
            task.assess(task.predict(logits), replace(record, patient_id=record.case_id), mask, SPACING)
            for logits, record, mask in zip(outputs, RECORDS, masks.to(torch.uint8).numpy(), strict=True)
        ]
        assert set(task.metrics) <= set(summarise(said, seed=0))
        assert all(metric_of(metric).meaning for metric in task.metrics)
