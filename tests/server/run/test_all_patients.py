"""Results over all hospitals' patients from what each sends: histograms in, no case known."""

import numpy as np
import pytest

from prostafed.common.metrics.histogram_floats import scores_to_floats
from prostafed.common.metrics.histograms import bin_scores
from prostafed.common.metrics.ranking import auroc_rows
from prostafed.server.exchange.admission import RejectedError
from prostafed.server.run.all_patients import check_histograms, pool

GENERATOR = np.random.default_rng(5)


def draw_site(cases: int) -> tuple[np.ndarray, np.ndarray]:
    labels = GENERATOR.random(cases) < 0.3
    scores = 1 / (1 + np.exp(-(GENERATOR.normal(size=cases) + 1.5 * labels - 1)))
    return labels, scores


def send(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    histogram = bin_scores(labels, scores)
    assert histogram is not None
    return scores_to_floats(histogram)


def test_the_pooled_auroc_is_near_that_of_the_cases_and_surely_between_its_bounds() -> None:
    sites = {name: draw_site(400) for name in ("north", "south")}
    (row, *_) = pool({name: send(*cases) for name, cases in sites.items()}, stage=2, seed=1)
    labels, scores = (np.concatenate([cases[part] for cases in sites.values()]) for part in (0, 1))
    exact = float(auroc_rows(labels, scores, np.ones((1, len(labels))))[0])
    assert (row.stage, row.metric, row.sites) == (2, "auroc", ("north", "south"))
    assert row.value == pytest.approx(exact, abs=0.005)
    assert row.lowest <= exact <= row.highest
    assert row.low < row.value < row.high


def test_a_site_that_sends_none_is_not_counted() -> None:
    rows = pool({"north": send(*draw_site(300)), "small": {"n": 5.0}}, stage=2, seed=1)
    assert [row.sites for row in rows] == [("north",)] * 2
    assert pool({"small": {}}, stage=2, seed=1) == []


@pytest.mark.parametrize("value", [-3.0, 2.5, 1e30])
def test_a_histogram_that_cannot_be_one_is_rejected(value: float) -> None:
    metrics = send(*draw_site(300))
    broken = {**metrics, next(iter(metrics)): value}
    with pytest.raises(RejectedError) as rejected:
        check_histograms(broken)
    assert rejected.value.code == "WRONG_HISTOGRAM"


def test_a_histogram_of_more_cases_than_a_hospital_has_is_rejected_before_it_is_laid_out() -> None:
    sound = send(*draw_site(300))
    check_histograms(sound)
    with pytest.raises(RejectedError, match="expected at most 1000000"):
        check_histograms({**sound, "score_histogram/negative/000": 1e7})
