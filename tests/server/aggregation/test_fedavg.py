"""Federated averaging: by hand, against Flower's, equal to pooled gradient descent."""

from fractions import Fraction

import numpy as np
import pytest
from flwr.server.strategy.aggregate import aggregate

from prostafed.server.aggregation import Update
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, run_round, sent, update


def average(updates: list[Update]) -> list[float]:
    averaged = run_round(build("fedavg"), sent([0.0, 0.0, 0.0]), updates).tensors["w"]
    assert averaged.dtype == np.float32
    return [float(value) for value in averaged]


def test_weighted_by_cases_by_hand() -> None:
    averaged = average([update([1.0, 2.0, -4.0], cases=1), update([4.0, 0.5, 8.0], cases=3)])
    assert averaged == [float(value) for value in (Fraction(13, 4), Fraction(7, 8), Fraction(20, 4))]


def test_steps_do_not_matter() -> None:
    assert average([update([3.0, 0.0, 0.0], steps=1), update([1.0, 0.0, 0.0], steps=9)]) == [2.0, 0.0, 0.0]


def test_as_flower_averages() -> None:
    rng = np.random.default_rng(1)
    updates = [update(list(rng.normal(size=3)), cases=int(rng.integers(1, 50))) for _ in range(5)]
    (expected,) = aggregate([([each.tensors["w"]], each.cases) for each in updates])
    np.testing.assert_allclose(average(updates), expected, rtol=1e-5, atol=1e-7)


def test_each_tensor_is_divided_by_the_cases_of_those_that_sent_it() -> None:
    start = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32), "c": np.full((), 9.0, np.float32)}
    updates = [
        Update("north", 1, 1, {"a": np.float32([1.0]), "b": np.float32([5.0])}),
        Update("south", 3, 1, {"a": np.float32([5.0])}),
    ]
    tensors = run_round(build("fedavg"), start, updates).tensors
    assert (tensors["a"].tolist(), tensors["b"].tolist(), tensors["c"].tolist()) == ([4.0], [5.0], 9.0)


def test_a_tensor_without_axes() -> None:
    start = {"scale": np.array(1.0, np.float32)}
    updates = [Update("a", 1, 1, {"scale": np.array(2.0, np.float32)}), Update("b", 1, 1, {"scale": np.float32(4.0)})]
    scale = run_round(build("fedavg"), start, updates).tensors["scale"]
    assert (scale.shape, float(scale)) == ((), 3.0)


def test_one_full_batch_step_across_sites_is_one_pooled_step() -> None:
    rng = np.random.default_rng(0)
    data, weight = rng.normal(size=(10, 3)), rng.normal(size=3)

    def step(rows: np.ndarray) -> np.ndarray:
        return weight - 0.1 * 2 * rows.T @ (rows @ weight) / len(rows)

    updates = [update(list(step(data[:4])), cases=4), update(list(step(data[4:])), cases=6)]
    np.testing.assert_allclose(average(updates), step(data), rtol=1e-5)


def test_a_value_too_large_is_rejected_and_leaves_no_trace() -> None:
    aggregator = build("fedavg")
    state = aggregator.add(aggregator.init(sent([0.0] * 3), {}), update([1.0, 2.0, 3.0], cases=4))
    with pytest.raises(RejectedError, match="too large"):
        aggregator.add(state, update([1.0, 1e30, 1.0], cases=4))
    np.testing.assert_array_equal(aggregator.finish(state).tensors["w"], [1.0, 2.0, 3.0])


def test_the_norm_of_the_step_is_reported() -> None:
    outcome = run_round(build("fedavg"), sent([1.0, 1.0, 0.0]), [update([4.0, 5.0, 0.0])])
    assert outcome.diagnostics == {"update_norm": pytest.approx(5.0)}
