"""Federated averaging: by hand, exact whatever the order, equal to pooled gradient descent."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.messages import Reply
from prostafed.common.tensors import Tensors
from prostafed.server.admission import RejectedError
from prostafed.server.aggregation import AGGREGATORS

SENT = {"encoder.weight": np.zeros(3, np.float32)}


def reply(values: list[float], cases: int) -> Reply:
    return Reply("site", cases=cases, tensors={"encoder.weight": np.array(values, np.float32)})


def average(replies: list[Reply], sent: Tensors = SENT, name: str = "fedavg") -> Tensors:
    aggregator = AGGREGATORS[name]()
    state = aggregator.init(sent)
    for each in replies:
        state = aggregator.add(state, each)
    return aggregator.finish(state, sent)[0]


def test_weighted_by_cases_by_hand() -> None:
    averaged = average([reply([1.0, 2.0, -4.0], 1), reply([4.0, 0.5, 8.0], 3)])["encoder.weight"]
    expected = [Fraction(13, 4), Fraction(7, 8), Fraction(20, 4)]
    assert averaged.tolist() == [float(value) for value in expected]
    assert averaged.dtype == np.float32


def test_one_site_is_local_training_and_equal_updates_return_themselves() -> None:
    values = [0.1, -3.7e-3, 12.5]
    for replies in ([reply(values, 7)], [reply(values, 7), reply(values, 2), reply(values, 31)]):
        np.testing.assert_array_equal(average(replies)["encoder.weight"], np.array(values, np.float32))


@given(seed=st.integers(0, 1000))
def test_order_of_arrival_does_not_change_one_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    replies = [
        reply(list(rng.normal(size=3) * 10.0 ** rng.integers(-6, 3)), int(rng.integers(1, 500))) for _ in range(4)
    ]
    results = {average(list(order))["encoder.weight"].tobytes() for order in permutations(replies)}
    assert len(results) == 1
    weights = [r.cases for r in replies]
    exact = np.average([r.tensors["encoder.weight"].astype(np.float64) for r in replies], axis=0, weights=weights)
    np.testing.assert_allclose(average(replies)["encoder.weight"], exact, rtol=1e-6, atol=1e-10)


def test_one_full_batch_step_across_sites_is_one_pooled_step() -> None:
    rng = np.random.default_rng(0)
    data, weight = rng.normal(size=(10, 3)), rng.normal(size=3)

    def step(rows: np.ndarray) -> np.ndarray:
        return weight - 0.1 * 2 * rows.T @ (rows @ weight) / len(rows)

    replies = [reply(list(step(data[:4])), 4), reply(list(step(data[4:])), 6)]
    np.testing.assert_allclose(average(replies)["encoder.weight"], step(data), rtol=1e-5)


def test_a_value_too_large_is_rejected_and_leaves_no_trace() -> None:
    aggregator = AGGREGATORS["fedavg"]()
    state = aggregator.add(aggregator.init(SENT), reply([1.0, 2.0, 3.0], 4))
    with pytest.raises(RejectedError, match="too large"):
        aggregator.add(state, reply([1.0, 1e30, 1.0], 4))
    np.testing.assert_array_equal(aggregator.finish(state, SENT)[0]["encoder.weight"], [1.0, 2.0, 3.0])


def test_update_norm_is_reported() -> None:
    aggregator = AGGREGATORS["fedavg"]()
    state = aggregator.add(aggregator.init(SENT), reply([3.0, 4.0, 0.0], 1))
    assert aggregator.finish(state, SENT)[1] == {"update_norm": pytest.approx(5.0)}
