"""FedNova: by hand, against its formula, and what differs from federated averaging."""

import numpy as np
import pytest

from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.one_round import build, run_round, sent, update


def test_by_hand() -> None:
    # p = 1/4, 3/4; tau_eff = 1/4 x 2 + 3/4 x 4 = 7/2; sum p Delta/tau = 1/4 x 2/2 + 3/4 x 4/4 = 1
    updates = [update([3.0, 1.0, 1.0], cases=1, steps=2), update([5.0, 1.0, 1.0], cases=3, steps=4, site="b")]
    tensors = run_round(build("fednova"), sent([1.0, 1.0, 1.0]), updates).tensors
    np.testing.assert_allclose(tensors["w"], [1 + 3.5, 1.0, 1.0], rtol=1e-6)


def test_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    start = sent(list(rng.normal(size=3)))
    updates = [
        update(list(rng.normal(size=3)), int(rng.integers(1, 90)), int(rng.integers(1, 40)), str(k)) for k in range(6)
    ]
    n = sum(each.cases for each in updates)
    effective = sum(each.cases / n * each.steps for each in updates)
    direction = sum(each.cases / n * (each.tensors["w"] - start["w"]) / each.steps for each in updates)
    tensors = run_round(build("fednova"), start, updates).tensors
    np.testing.assert_allclose(tensors["w"], start["w"] + effective * direction, rtol=1e-5)


def test_with_equal_steps_it_is_federated_averaging_to_the_last_bit() -> None:
    rng = np.random.default_rng(1)
    start = sent(list(rng.normal(size=3)))
    for steps in (1, 3, 7):
        updates = [update(list(rng.normal(size=3)), int(rng.integers(1, 90)), steps, str(k)) for k in range(4)]
        nova, plain = (run_round(build(name), start, updates).tensors["w"] for name in ("fednova", "fedavg"))
        np.testing.assert_array_equal(nova, plain)


def test_a_site_of_many_steps_does_not_pull_more_than_its_cases() -> None:
    # one site took 10 steps of size 1 along x, another 1 step along y: equal cases, equal pull
    updates = [update([10.0, 0.0, 0.0], 5, 10), update([0.0, 1.0, 0.0], 5, 1, "b")]
    tensors = run_round(build("fednova"), sent([0.0] * 3), updates).tensors["w"]
    assert tensors[0] == pytest.approx(tensors[1])


def test_a_reply_without_steps_is_rejected() -> None:
    aggregator = build("fednova")
    with pytest.raises(RejectedError, match="at least 1 optimiser step, found 0"):
        aggregator.add(aggregator.init(sent([0.0]), {}), update([1.0], steps=0))
