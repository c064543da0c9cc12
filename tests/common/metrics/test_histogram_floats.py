import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.metrics.histogram_floats import (
    DETECTION_KEYS,
    HISTOGRAM_KEYS,
    SCORE_KEYS,
    detections_from_floats,
    detections_to_floats,
    scores_from_floats,
    scores_to_floats,
)
from prostafed.common.metrics.histograms import DetectionHistogram, ScoreHistogram, bin_scores, merge_scores

HISTOGRAM = ScoreHistogram((0, 17), (17, 256), (1, 20), (30, 4))
FLOATS = {
    "score_histogram/positive/000": 1.0,
    "score_histogram/positive/017": 20.0,
    "score_histogram/negative/000": 30.0,
    "score_histogram/negative/017": 4.0,
}


def test_names_by_hand() -> None:
    assert scores_to_floats(HISTOGRAM) == FLOATS
    assert scores_from_floats(FLOATS) == HISTOGRAM
    detections = DetectionHistogram(HISTOGRAM, 25, 60)
    floats = detections_to_floats(detections)
    assert floats["detection_histogram/hit/017"] == 20.0
    assert floats["detection_histogram/miss/000"] == 30.0
    assert floats["detection_histogram/lesions"] == 25.0
    assert floats["detection_histogram/cases"] == 60.0
    assert detections_from_floats(floats) == detections


def test_other_metrics_are_passed_over_and_none_is_none() -> None:
    assert scores_from_floats({"auroc": 0.8}) is None
    assert detections_from_floats(FLOATS) is None
    assert scores_from_floats({**FLOATS, "auroc": 0.8, "detection_histogram/lesions": 3.0}) == HISTOGRAM


def test_every_histogram_comes_back_and_uses_listed_names() -> None:
    generator = np.random.default_rng(0)
    for minimum in (1, 3, 10):
        for count in (20, 100, 800):
            histogram = bin_scores(generator.random(count) < 0.3, generator.random(count), minimum=minimum)
            assert histogram is not None
            floats = scores_to_floats(histogram)
            assert scores_from_floats(floats) == histogram
            assert set(floats) <= set(SCORE_KEYS)
            assert set(detections_to_floats(DetectionHistogram(histogram, count, count))) <= set(DETECTION_KEYS)
    assert len(set(HISTOGRAM_KEYS)) == 4 * 256 + 2


def without(name: str) -> dict[str, float]:
    return {key: value for key, value in FLOATS.items() if key != name}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (without("score_histogram/negative/017"), "both counts of every cell"),
        (without("score_histogram/positive/000"), "both counts of every cell"),
        ({"score_histogram/positive/017": 1.0, "score_histogram/negative/017": 1.0}, "the first at bin 0"),
        ({**FLOATS, "score_histogram/positive/017": -1.0}, "017 to be a whole number of 0 or more, found -1"),
        ({**FLOATS, "score_histogram/positive/017": 0.5}, "whole number"),
        ({**FLOATS, "score_histogram/positive/017": float("nan")}, "whole number"),
        ({**FLOATS, "score_histogram/positive/017": float("inf")}, "whole number"),
    ],
)
def test_what_no_site_can_have_made_is_refused(metrics: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scores_from_floats(metrics)


def test_more_hits_than_lesions_are_refused() -> None:
    floats = detections_to_floats(DetectionHistogram(HISTOGRAM, 21, 60))
    with pytest.raises(DataError, match="found 20 of 21"):
        detections_from_floats({**floats, "detection_histogram/lesions": 20.0})
    with pytest.raises(DataError, match="cases to be a whole number of 0 or more, found None"):
        detections_from_floats({key: value for key, value in floats.items() if not key.endswith("cases")})


def test_a_merged_histogram_has_no_names() -> None:
    with pytest.raises(ValueError, match="before they are merged"):
        scores_to_floats(merge_scores([HISTOGRAM, HISTOGRAM]))
