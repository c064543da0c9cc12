"""What a prediction says, by hand."""

import numpy as np
import pytest

from prostafed.client.predict.interpret import Answer, Segment, interpret
from prostafed.common.bundle.record import Thresholds

LOW = Thresholds(min_confidence=0.1)


def make_heat() -> np.ndarray:
    heat = np.zeros((3, 8, 8), dtype=np.float32)
    heat[0, 0:2, 0:3] = 0.9
    heat[2, 5:8, 5:8] = 0.3
    heat[2, 0:2, 0:2] = 0.05
    return heat


def test_candidates_are_numbered_by_confidence_and_the_faint_one_is_not_shown() -> None:
    heat = make_heat()
    answer = interpret("lesion", heat, LOW, min_voxels=3)
    assert answer.score == pytest.approx(0.9)
    assert answer.segments == (Segment("candidate", pytest.approx(0.9)), Segment("candidate", pytest.approx(0.3)))
    assert answer.labels is not None
    np.testing.assert_array_equal(answer.labels == 1, heat == np.float32(0.9))
    np.testing.assert_array_equal(answer.labels == 2, heat == np.float32(0.3))


def test_the_score_counts_what_is_not_shown() -> None:
    answer = interpret("lesion", make_heat(), Thresholds(min_confidence=0.95), min_voxels=3)
    assert (answer.score, answer.segments) == (pytest.approx(0.9), ())
    assert answer.labels is not None
    assert not answer.labels.any()
    assert interpret("lesion", np.zeros((2, 3, 3), np.float32), LOW, 3).score == 0


def test_at_most_so_many_candidates() -> None:
    answer = interpret("lesion", make_heat(), Thresholds(min_confidence=0, max_candidates=1), min_voxels=3)
    assert len(answer.segments) == 1


def test_zones_are_segments() -> None:
    zones = np.zeros((2, 2, 4, 4), dtype=np.float32)
    zones[0, :, :2], zones[1, :, 2:] = 0.8, 0.7
    answer = interpret("anatomy", zones, LOW, 0)
    assert answer.labels is not None
    assert answer.labels[0, :, 0].tolist() == [1, 1, 2, 2]
    assert [each.kind for each in answer.segments] == ["pz", "tz"]
    assert answer.score is None
    assert answer.heat is None


def test_scores_alone() -> None:
    assert interpret("classify", np.float32(0.25), LOW, 0) == Answer(0.25)
    answer = interpret("pirads", np.array([0.75, 0.5, 0.25], dtype=np.float32), LOW, 0)
    assert answer == Answer(0.5, {"pirads_3": 0.75, "pirads_4": 0.5, "pirads_5": 0.25})
