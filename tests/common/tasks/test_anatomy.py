"""The anatomy task: what counts of a case, postprocessing, and what is said of a case."""

import numpy as np
import pytest
import torch

from prostafed.common.imaging.cases import MASKS, CaseRecord
from prostafed.common.tasks import build_task
from prostafed.common.tasks.anatomy import PZ, TZ, UNKNOWN, segment

SIZE, SPACING = (4, 8, 8), (3.0, 1.0, 1.0)
BOTH = CaseRecord("a", "a", masks=("gland", "zones"))
GLAND = CaseRecord("b", "b", masks=("gland", "lesion"))
ZONES = CaseRecord("c", "c", masks=("zones",))
NEITHER = CaseRecord("d", "d", cspca=True, masks=("lesion",))


def make_masks() -> np.ndarray:
    masks = np.zeros((len(MASKS), *SIZE), np.uint8)
    masks[MASKS.index("gland"), 1:3, 2:6, 2:6] = 1
    masks[MASKS.index("zones"), 1:3, 2:6, 2:6] = TZ
    masks[MASKS.index("zones"), 1:3, 4:6, 2:6] = PZ
    return masks


def test_a_case_counts_for_what_is_delineated_in_it() -> None:
    task = build_task("anatomy")
    assert [task.usable(record) for record in (BOTH, GLAND, ZONES, NEITHER)] == [True, True, True, False]
    masks = torch.from_numpy(np.stack([make_masks()] * 3))
    target = task.targets([BOTH, GLAND, ZONES], masks)
    assert target.shape == (3, 2, *SIZE)
    gland, zones = masks[0, MASKS.index("gland")], masks[0, MASKS.index("zones")]
    for case, (has_gland, has_zones) in enumerate([(True, True), (True, False), (False, True)]):
        assert torch.equal(target[case, 0], gland.float() if has_gland else torch.full(SIZE, float(UNKNOWN)))
        assert torch.equal(target[case, 1], zones.float() if has_zones else torch.full(SIZE, float(UNKNOWN)))


def test_the_gland_is_one_piece_and_each_voxel_of_it_in_one_zone() -> None:
    zones = np.zeros((2, *SIZE), np.float32)
    zones[0, 1:3, 2:6, 2:6], zones[1, 1:3, 2:6, 2:6] = 0.3, 0.4
    zones[0, 1, 2, 2] = 0.5
    zones[1, 0, 0, 7] = 0.9  # a stray voxel
    zones[0, 3, 7, 0], zones[1, 3, 7, 0] = 0.24, 0.25  # likelier outside
    zones[0, 1, 2, 3], zones[1, 1, 2, 3] = 0.25, 0.25  # as likely, and of the gland
    labels = segment(zones)
    assert labels.dtype == np.uint8
    assert (labels > 0).sum() == 2 * 4 * 4
    assert np.argwhere(labels == PZ).tolist() == [[1, 2, 2], [1, 2, 3]]
    assert not segment(np.zeros((2, *SIZE), np.float32)).any()


@pytest.mark.parametrize(
    ("record", "structures"), [(BOTH, {"gland", "pz", "tz"}), (GLAND, {"gland"}), (ZONES, {"pz", "tz"})]
)
def test_only_what_was_delineated_is_measured(record: CaseRecord, structures: set[str]) -> None:
    masks = make_masks()
    zones = masks[MASKS.index("zones")]
    probabilities = np.stack([zones == PZ, zones == TZ]).astype(np.float32)
    said = build_task("anatomy").assess(probabilities, record, masks, SPACING)
    assert (said.label, said.score) == (None, None)
    assert {name.split("_")[0] for name in said.measures} == structures
    for name, value in said.measures.items():
        assert value == (1.0 if name.endswith("dice") else 0.0), name


def test_a_prediction_holds_the_probabilities_of_both_zones() -> None:
    logits = torch.log(torch.tensor([0.5, 0.2, 0.3]))[:, None, None, None]
    assert build_task("anatomy").predict(logits).ravel() == pytest.approx([0.2, 0.3])
