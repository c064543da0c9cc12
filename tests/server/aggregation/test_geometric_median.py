"""The geometric median: by hand, against the iteration written on whole vectors, and against scipy's minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from prostafed.common.errors import RoundError
from prostafed.server.aggregation.geometric_median import weigh
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, run_round, sent, update


def weiszfeld(points: np.ndarray, iterations: int, smoothing: float) -> np.ndarray:
    """The paper's algorithm on the vectors themselves."""
    median = points.mean(axis=0)
    for _ in range(iterations):
        weights = 1 / np.maximum(smoothing, np.linalg.norm(points - median, axis=1))
        median = weights @ points / weights.sum()
    return median


def test_of_three_on_a_line_it_is_the_middle_one() -> None:
    updates = [update([x, 0.0, 0.0], cases=cases, site=str(x)) for x, cases in ((0.0, 1), (1.0, 1), (10.0, 500))]
    outcome = run_round(build("geometric_median", iterations=1000), sent([0.0] * 3), updates)
    np.testing.assert_allclose(outcome.tensors["w"], [1.0, 0.0, 0.0], atol=1e-3)
    assert sum(value for name, value in outcome.diagnostics.items() if name.startswith("weight.")) == pytest.approx(1)


@pytest.mark.parametrize("seed", [1, 3, 10])
def test_as_on_whole_vectors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(6, 3)).astype(np.float32)
    updates = [update(list(point), site=str(row)) for row, point in enumerate(points)]
    outcome = run_round(build("geometric_median"), sent(list(rng.normal(size=3))), updates)
    taken = int(outcome.diagnostics["iterations"])
    expected = weiszfeld(points.astype(np.float64), taken, 1e-6)
    np.testing.assert_allclose(outcome.tensors["w"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("honest", [[0.0, 0.4], [0.0, 0.3, 0.4, 0.7]])
def test_it_goes_on_until_it_is_there_however_far_the_wrong_one_is(far: float, honest: list[float]) -> None:
    updates = [update([x, 0.0, 0.0], site=str(x)) for x in (*honest, far)]
    tensors = run_round(build("geometric_median"), sent([0.0] * 3), updates).tensors
    np.testing.assert_allclose(tensors["w"], [0.4, 0.0, 0.0], atol=1e-3)


def test_two_camps_far_apart_settle_too() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(3, 3)), 100 + rng.normal(size=(3, 3))])
    updates = [update(list(point), site=str(row)) for row, point in enumerate(points)]
    tensors = run_round(build("geometric_median"), sent([0.0] * 3), updates).tensors
    best = minimize(lambda x: np.linalg.norm(points - x, axis=1).sum(), points.mean(axis=0), tol=1e-10).fun
    assert np.linalg.norm(points - tensors["w"], axis=1).sum() == pytest.approx(best, rel=1e-5)


def test_a_median_that_has_not_settled_is_no_median() -> None:
    updates = [update([x, 0.0, 0.0], site=str(x)) for x in (0.0, 0.4, 1e6)]
    with pytest.raises(RoundError, match="had not settled after 3 iterations"):
        run_round(build("geometric_median", iterations=3), sent([0.0] * 3), updates)


def test_the_sum_of_distances_is_least() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    best = minimize(lambda x: np.linalg.norm(points - x, axis=1).sum(), points.mean(axis=0), tol=1e-10).x
    updates = [update(list(point), site=str(row)) for row, point in enumerate(points)]
    tensors = run_round(build("geometric_median", iterations=500), sent([0.0] * 3), updates).tensors
    np.testing.assert_allclose(tensors["w"], best, atol=1e-4)


def test_it_stops_when_settled() -> None:
    weights, taken = weigh(np.array([[0.0, 4.0], [4.0, 0.0]]), most=50, smoothing=1e-6)
    assert (weights.tolist(), taken) == ([0.5, 0.5], 1)


def test_a_huge_value_is_turned_away() -> None:
    """Its weight of 1e-17, which is rounding, would still move the median by 1e13."""
    aggregator = build("geometric_median")
    with pytest.raises(RejectedError, match=r"holds a value of 2.1e\+06 or more"):
        aggregator.add(aggregator.init(sent([0.0] * 3), {}), update([1e30] * 3))
