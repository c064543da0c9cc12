import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.metrics.histograms import (
    BINS,
    EDGES,
    DetectionHistogram,
    ScoreHistogram,
    bin_detections,
    bin_predictions,
    bin_scores,
    merge_detections,
    merge_scores,
)
from prostafed.common.metrics.predictions import CasePrediction

LOW, MIDDLE, HIGH = 0.1, 0.5, 0.9


def test_edges_are_even_in_the_logit() -> None:
    assert EDGES.shape == (BINS - 1,)
    np.testing.assert_allclose(np.diff(np.log(EDGES / (1 - EDGES))), 16 / BINS)
    assert EDGES[BINS // 2 - 1] == 0.5


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [
        (2, ScoreHistogram((0, 128), (128, 256), (0, 3), (2, 1))),  # 0.5 is in bin 128
        (3, ScoreHistogram((0,), (256,), (3,), (3,))),
        (6, ScoreHistogram((0,), (256,), (3,), (3,))),
        (7, None),
    ],
)
def test_cases_are_counted_by_label(minimum: int, expected: ScoreHistogram | None) -> None:
    labels, scores = [0, 0, 1, 0, 1, 1], [LOW, LOW, MIDDLE, MIDDLE, MIDDLE, MIDDLE]
    assert bin_scores(labels, scores, minimum=minimum) == expected


def test_without_a_minimum_each_score_has_its_bin() -> None:
    scores = np.array([0.0, 1e-9, LOW, MIDDLE, HIGH, 1.0])
    histogram = bin_scores([0, 0, 0, 1, 1, 1], scores, minimum=1)
    assert histogram is not None
    for score, label in zip(scores, (0, 0, 0, 1, 1, 1), strict=True):
        place = int(np.searchsorted(EDGES, score, side="right"))
        cell = next(k for k, stop in enumerate(histogram.stops) if histogram.starts[k] <= place < stop)
        assert (histogram.positives if label else histogram.negatives)[cell] > 0
    assert (sum(histogram.positives), sum(histogram.negatives)) == (3, 3)


def test_ten_patients_by_default_and_a_patient_counts_once() -> None:
    scores = [0.3] * 10 + [0.7] * 10
    assert bin_scores([0] * 20, scores, list("abcdefghijklmnopqrst")) == ScoreHistogram(
        (0, 128), (128, 256), (0, 0), (10, 10)
    )
    assert bin_scores([0] * 20, scores, list("abcdefghij" * 2)) is not None  # the same ten in both
    assert bin_scores([0] * 20, scores, list("aabbccddeeffgghhiijj")) == ScoreHistogram((0,), (256,), (0,), (20,))
    assert bin_scores([0] * 20, scores, ["a"] * 20) is None
    assert bin_scores([0] * 9, [0.3] * 9) is None
    assert bin_scores([], []) is None


def test_what_cannot_be_binned_is_refused() -> None:
    with pytest.raises(DataError, match=r"in \[0, 1\], found -2 to 0.5"):
        bin_scores([0, 1], [-2.0, 0.5])
    with pytest.raises(DataError, match="NaN or infinite"):
        bin_scores([0, 1], [np.nan, 0.5])
    with pytest.raises(ValueError, match="a label, a score and a patient per case"):
        bin_scores([0, 1], [0.5, 0.5], ["a"])


def case(
    name: str, label: bool | None, score: float | None, *found: tuple[float, bool], lesions: int = 0
) -> CasePrediction:
    return CasePrediction(name, name, label, score, found, lesions)


def test_predictions_without_label_or_score_are_left_out() -> None:
    predictions = [case("a", True, HIGH), case("b", False, LOW), case("c", None, HIGH), case("d", True, None)]
    assert bin_predictions(predictions, minimum=2) == ScoreHistogram((0,), (256,), (1,), (1,))
    assert bin_predictions(predictions, minimum=3) is None
    assert bin_predictions([]) is None


def test_candidates_are_counted_by_hit_and_their_patients() -> None:
    predictions = [
        case("a", True, HIGH, (HIGH, True), (LOW, False), lesions=2),
        case("b", False, LOW, (LOW, False)),
        case("c", False, 0.0),
    ]
    assert bin_detections(predictions, minimum=1) == DetectionHistogram(
        ScoreHistogram((0, 128), (128, 256), (0, 1), (2, 0)), lesions=2, cases=3
    )
    assert bin_detections(predictions, minimum=2) == DetectionHistogram(
        ScoreHistogram((0,), (256,), (1,), (2,)), lesions=2, cases=3
    )
    assert bin_detections(predictions, minimum=3) is None  # only two patients have a candidate
    assert bin_detections([]) is None


def test_merging_keeps_every_cell_in_whatever_order() -> None:
    one = ScoreHistogram((0,), (256,), (3,), (9,))
    other = ScoreHistogram((0, 100), (100, 256), (1, 8), (10, 2))
    merged = ScoreHistogram((0, 0, 100), (256, 100, 256), (3, 1, 8), (9, 10, 2))
    assert merge_scores([one, other]) == merge_scores([other, one]) == merged
    assert merge_scores([]) == ScoreHistogram((), (), (), ())
    both = merge_detections([DetectionHistogram(one, 4, 20), DetectionHistogram(other, 11, 30)])
    assert both == DetectionHistogram(merge_scores([one, other]), 15, 50)
