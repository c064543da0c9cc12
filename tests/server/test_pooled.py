"""Results over all hospitals' patients from what each sends: histograms in, no case known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.messages import Reply, Request
from prostafed.common.metrics.histogram_floats import scores_to_floats
from prostafed.common.metrics.histograms import bin_scores
from prostafed.common.metrics.ranking import auroc_rows
from prostafed.server.admission import RejectedError
from prostafed.server.evaluation import evaluate
from prostafed.server.pooled import check_histograms, pool
from prostafed.server.rounds import Exchange, OnReply
from tests.server.test_stages import STUDY

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
    (row, *_) = pool({name: send(*cases) for name, cases in sites.items()}, seed=1)
    labels, scores = (np.concatenate([cases[part] for cases in sites.values()]) for part in (0, 1))
    exact = float(auroc_rows(labels, scores, np.ones((1, len(labels))))[0])
    assert (row["metric"], row["sites"]) == ("auroc", ["north", "south"])
    assert row["value"] == pytest.approx(exact, abs=0.005)
    assert row["lowest"] <= exact <= row["highest"]
    assert row["low"] < row["value"] < row["high"]


def test_a_site_that_sends_none_is_not_counted() -> None:
    rows = pool({"north": send(*draw_site(300)), "small": {"n": 5.0}}, seed=1)
    assert [row["sites"] for row in rows] == [["north"]] * 2
    assert pool({"small": {}}, seed=1) == []


@pytest.mark.parametrize("value", [-3.0, 2.5, 1e30])
def test_a_histogram_that_cannot_be_one_is_rejected(value: float) -> None:
    metrics = send(*draw_site(300))
    broken = {**metrics, next(iter(metrics)): value}
    with pytest.raises(RejectedError) as rejected:
        check_histograms(broken)
    assert rejected.value.code == "WRONG_HISTOGRAM"


class Evaluated:
    """Sites that answer an evaluation with histograms; one of them with nonsense."""

    def ask(self, request: Request, sites: list[str], on_reply: OnReply) -> Exchange:
        reply = Reply("", request.study_hash, request.stage, request.round, 300)
        for site in sites:
            metrics = {f"test/{name}": value for name, value in send(*draw_site(300)).items()}
            if site == "broken":
                metrics[next(iter(metrics))] = -1.0
            try:
                on_reply(site, replace(reply, site=site, metrics={**metrics, "test/auroc": 0.8, "test/n": 300.0}))
            except RejectedError:
                assert site == "broken"
        return Exchange(sites)


def test_histograms_become_pooled_rows_and_no_metric_rows(tmp_path: Path) -> None:
    found = evaluate(STUDY, "run", Evaluated(), ["broken", "north", "south"], {}, stage_number=2, round_number=3)
    assert {row["metric"] for row in found.rows} == {"auroc", "n"}
    assert {row["site"] for row in found.rows} == {"north", "south"}
    assert [(row["stage"], row["split"], row["metric"]) for row in found.pooled] == [
        (2, "test", "auroc"),
        (2, "test", "average_precision"),
    ]
