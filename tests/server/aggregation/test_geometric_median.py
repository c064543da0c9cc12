"""The geometric median: by hand, against the iteration written on whole vectors, and against scipy's minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from prostafed.server.aggregation.geometric_median import weigh
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


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_as_on_whole_vectors(iterations: int) -> None:
    rng = np.random.default_rng(iterations)
    points = rng.normal(size=(6, 3)).astype(np.float32)
    updates = [update(list(point), site=str(row)) for row, point in enumerate(points)]
    aggregator = build("geometric_median", iterations=iterations)
    tensors = run_round(aggregator, sent(list(rng.normal(size=3))), updates).tensors
    np.testing.assert_allclose(tensors["w"], weiszfeld(points.astype(np.float64), iterations, 1e-6), rtol=1e-5)


def test_the_sum_of_distances_is_least() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3))
    best = minimize(lambda x: np.linalg.norm(points - x, axis=1).sum(), points.mean(axis=0), tol=1e-10).x
    updates = [update(list(point), site=str(row)) for row, point in enumerate(points)]
    tensors = run_round(build("geometric_median", iterations=500), sent([0.0] * 3), updates).tensors
    np.testing.assert_allclose(tensors["w"], best, atol=1e-4)


def test_it_stops_when_settled() -> None:
    weights, taken = weigh(np.array([[0.0, 4.0], [4.0, 0.0]]), iterations=50, smoothing=1e-6)
    assert (weights.tolist(), taken) == ([0.5, 0.5], 1)
