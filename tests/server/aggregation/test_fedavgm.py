"""Momentum at the server: two rounds by hand, and what it is without momentum."""

import numpy as np

from tests.server.aggregation.one_round import build, run_round, sent, update


def test_two_rounds_by_hand() -> None:
    aggregator = build("fedavgm", server_learning_rate=0.5, momentum=0.5)
    first = run_round(aggregator, sent([1.0, 0.0, -1.0]), [update([3.0, 0.0, -2.0])])
    # v = mean - W = (2, 0, -1); W + v/2
    assert first.memory["momentum.w"].tolist() == [2.0, 0.0, -1.0]
    assert first.tensors["w"].tolist() == [2.0, 0.0, -1.5]
    second = run_round(aggregator, first.tensors, [update([3.0, 4.0, -1.5])], first.memory)
    # v = v/2 + (1, 4, 0) = (2, 4, -1/2)
    assert second.memory["momentum.w"].tolist() == [2.0, 4.0, -0.5]
    assert second.tensors["w"].tolist() == [3.0, 2.0, -1.75]


def test_without_momentum_and_with_a_step_of_one_it_is_federated_averaging() -> None:
    rng = np.random.default_rng(0)
    start = sent(list(rng.normal(size=3)))
    updates = [update(list(rng.normal(size=3)), cases=cases) for cases in (3, 8)]
    plain = run_round(build("fedavg"), start, updates)
    memory = {"momentum.w": np.float32([7.0, 7.0, 7.0])}
    momentum = run_round(build("fedavgm", momentum=0.0), start, updates, memory)
    np.testing.assert_array_equal(momentum.tensors["w"], plain.tensors["w"])
