"""FedEMA: the mean a site starts from, by hand."""

import numpy as np
import pytest

from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, RoundResult
from prostafed.common.aggregation import FedemaParameters
from prostafed.common.tensors import Tensors

RULE = build_rule("fedema", FedemaParameters(tau=0.5))


def tensors(value: float) -> Tensors:
    return {"encoder.weight": np.full((1, 1, 1, 1, 1), value, "f"), "predictor.weight": np.full(2, value, "f")}


def go(begun: float, ended: float, kept: Tensors) -> Tensors:
    return RULE.end(RoundInput(tensors(begun), kept=kept), RoundResult(tensors(begun), tensors(ended), 1, {})).kept


def start(received: float, kept: Tensors) -> list[float]:
    return [float(array.flat[0]) for array in RULE.begin(RoundInput(tensors(received), kept=kept)).values()]


def test_shares_follow_the_drift_from_the_first_on() -> None:
    """lambda = tau / D_1 = 0.5 / 2: with D = 2 mu is 0.5, with D = 1 it is 0.25, with D = 9 it is 1."""
    assert start(10, {}) == [10, 10]
    first = go(0, 2, {})
    assert start(10, first) == [6, 6]  # 0.5 x 2 + 0.5 x 10
    second = go(6, 7, first)
    assert start(11, second) == [10, 10]  # 0.25 x 7 + 0.75 x 11
    third = go(10, 19, second)
    assert start(0, third) == [19, 19]


def test_a_site_that_does_not_move_takes_the_global_network_and_fixes_nothing() -> None:
    still = go(3, 3, {})
    assert start(10, still) == [10, 10]
    assert start(10, go(10, 14, still)) == [12, 12], "the first drift is the one that counts"


def test_arrays_keep_their_dtype() -> None:
    assert RULE.begin(RoundInput(tensors(1), kept=go(0, 2, {})))["encoder.weight"].dtype == np.float32


@pytest.mark.parametrize("tau", [0.0, 0.7])
def test_equal_networks_stay_equal(tau: float) -> None:
    rule = build_rule("fedema", FedemaParameters(tau=tau))
    kept = rule.end(RoundInput(tensors(0)), RoundResult(tensors(0), tensors(1), 1, {})).kept
    np.testing.assert_allclose(rule.begin(RoundInput(tensors(1), kept=kept))["encoder.weight"], 1)
