"""Krum and Multi-Krum: scores by hand, choices as Flower makes them."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum

from prostafed.common.errors import RoundError
from prostafed.server.aggregation.krum import score
from prostafed.server.aggregation.robust import Spooled, measure_distances
from prostafed.server.aggregation.spool import Spool
from tests.server.aggregation.one_round import build, run_round, sent, update

# On a line: four near 0, one far away
LINE = [0.0, 1.0, 3.0, -2.0, 50.0]


def on_a_line() -> list:
    return [update([x, 0.0, 0.0], cases=1 + site, site=f"site-{site}") for site, x in enumerate(LINE)]


def test_scores_by_hand() -> None:
    distances = np.subtract.outer(LINE, LINE) ** 2
    # n - f - 2 = 2 closest: for 0 those of 1 and -2, for 1 of 0 and 3, ...
    assert score(distances, 1).tolist() == [1 + 4, 1 + 4, 4 + 9, 4 + 9, 47**2 + 49**2]


def test_krum_takes_the_first_of_the_least() -> None:
    outcome = run_round(build("krum"), sent([0.0] * 3), on_a_line())
    assert outcome.tensors["w"].tolist() == [0.0, 0.0, 0.0]
    assert {name: value for name, value in outcome.diagnostics.items() if value} == {"weight.site-0": 1.0}


@pytest.mark.parametrize(("kept", "mean"), [(1, 0.0), (2, 0.5), (3, 4 / 3), (0, 0.5), (5, 0.5)])
def test_multi_krum_averages_the_least_scores_never_all(kept: int, mean: float) -> None:
    outcome = run_round(build("multi_krum", kept=kept), sent([0.0] * 3), on_a_line())
    assert outcome.tensors["w"][0] == pytest.approx(mean)


@pytest.mark.parametrize("chosen", [1, 3])
@pytest.mark.parametrize("byzantine", [0, 1, 2])
def test_choices_are_flowers(chosen: int, byzantine: int) -> None:
    rng = np.random.default_rng(chosen)
    for _ in range(5):
        updates = [update(list(rng.normal(size=3)), site=f"{site}") for site in range(7)]
        contents = [
            RecordDict(
                {
                    "arrays": ArrayRecord({"w": Array(each.tensors["w"].astype(np.float64))}),
                    "metrics": MetricRecord({"site": int(each.site)}),
                }
            )
            for each in updates
        ]
        theirs = {int(each["metrics"]["site"]) for each in select_multikrum(contents, byzantine, chosen)}
        aggregator = build("multi_krum", byzantine=byzantine, kept=chosen)
        diagnostics = run_round(aggregator, sent([0.0] * 3), updates).diagnostics
        assert {site for site in range(7) if diagnostics[f"weight.{site}"]} == theirs


def test_distances_are_those_between_updates() -> None:
    rng = np.random.default_rng(0)
    start = sent(list(rng.normal(size=3)))
    spool = Spool(start)
    rows = rng.normal(size=(4, 3)).astype(np.float32)
    for site, row in enumerate(rows):
        spool.add(update(list(row), site=str(site)))
    expected = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(measure_distances(Spooled(start, spool)), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["krum", "multi_krum"])
def test_too_few_replies_are_said(name: str) -> None:
    with pytest.raises(RoundError, match=rf"{name} with byzantine = 2 needs 7 replies .* found 5\. Set the round's"):
        run_round(build(name, byzantine=2), sent([0.0] * 3), on_a_line())


def test_one_reply_fewer_than_needed_is_too_few() -> None:
    with pytest.raises(RoundError, match=r"needs 5 replies .* found 4"):
        run_round(build("krum", byzantine=1), sent([0.0] * 3), on_a_line()[:4])
