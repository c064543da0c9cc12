"""SCAFFOLD at a site: the corrected step and the control variates by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from prostafed.client.training.loop import Continuation
from prostafed.client.training.optimisers import Optimisation
from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, RoundResult, RuleOutput
from prostafed.common.aggregation import ScaffoldParameters
from prostafed.common.tensors import Tensors
from tests.client.training.learn import learn

RULE = build_rule("scaffold", ScaffoldParameters())
SETTINGS = Optimisation(epochs=3, batch_size=1, learning_rate=0.1, weight_decay=0.0, seed=1, optimiser="sgd")


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def train(network: nn.Linear, slope: float, given: RoundInput) -> tuple[Tensors, RuleOutput]:
    """Three steps of a loss whose gradient is `slope` everywhere."""
    begun = {"weight": network.weight.detach().numpy().copy()}
    adjust = RULE.adjust(given)
    record = learn(network, lambda *_: lambda part: slope * network.weight.sum(), 1, SETTINGS,
                      continuation=Continuation(adjust=adjust))  # fmt: skip
    ended = {"weight": network.weight.detach().numpy().copy()}
    return ended, RULE.end(given, RoundResult(begun, ended, record.steps, record.rates))


def make_network() -> nn.Linear:
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network


def test_without_controls_it_is_sgd_and_the_control_becomes_the_mean_gradient() -> None:
    given = RoundInput({"weight": np.zeros((1, 2), np.float32)})
    ended, outcome = train(make_network(), 0.5, given)
    np.testing.assert_allclose(ended["weight"], -0.1 * 3 * 0.5 * np.ones((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(outcome.kept["weight"], np.full((1, 2), 0.5), rtol=1e-5)
    np.testing.assert_allclose(outcome.sent["control.weight"], np.full((1, 2), 0.5), rtol=1e-5)


def test_zero_controls_change_no_bit_of_sgd() -> None:
    zero = {"control.weight": np.zeros((1, 2), np.float32)}
    corrected, _ = train(make_network(), 0.5, RoundInput({"weight": np.zeros((1, 2), np.float32)}, zero))
    network = make_network()
    learn(network, lambda *_: lambda part: 0.5 * network.weight.sum(), 1, SETTINGS)
    assert corrected["weight"].tobytes() == network.weight.detach().numpy().tobytes()


def test_the_step_follows_g_minus_c_i_plus_c_and_option_two_finds_g_again() -> None:
    """g = 0.5, c_i = 0.2, c = 0.1: the site steps by 0.4, and c_i+ = c_i - c + 0.4 = 0.5."""
    shared = {"weight": np.zeros((1, 2), np.float32)}
    given = RoundInput(
        shared, {"control.weight": np.full((1, 2), 0.1, np.float32)}, {"weight": np.full((1, 2), 0.2, "f")}
    )
    ended, outcome = train(make_network(), 0.5, given)
    np.testing.assert_allclose(ended["weight"], np.full((1, 2), -0.1 * 3 * 0.4), rtol=1e-5)
    np.testing.assert_allclose(outcome.kept["weight"], np.full((1, 2), 0.5), rtol=1e-5)
    np.testing.assert_allclose(outcome.sent["control.weight"], np.full((1, 2), 0.3), rtol=1e-5)


def test_one_site_alone_is_corrected_by_nothing() -> None:
    """Its own control and the server's are then the same: local training."""
    shared = {"weight": np.zeros((1, 2), np.float32)}
    _, first = train(make_network(), 0.5, RoundInput(shared))
    server = {"control.weight": first.sent["control.weight"]}  # the mean of one site's change
    ended, _ = train(make_network(), 0.5, RoundInput(shared, server, first.kept))
    np.testing.assert_allclose(ended["weight"], np.full((1, 2), -0.15), rtol=1e-6)


def test_each_layer_has_the_learning_rate_it_was_trained_with_and_frozen_ones_keep_their_control() -> None:
    shared = {"fast": array(1), "slow": array(1), "frozen": array(1), "count": np.array([3])}
    given = RoundInput(shared, kept={"fast": array(0), "slow": array(0), "frozen": array(0.7)})
    ended = {"fast": array(0), "slow": array(0), "frozen": array(1), "count": np.array([3])}
    outcome = RULE.end(given, RoundResult(shared, ended, steps=2, rates={"fast": 0.5, "slow": 0.25, "head": 1.0}))
    assert outcome.kept == {"fast": array(1), "slow": array(2), "frozen": array(0.7)}
    assert outcome.sent == {"control.fast": array(1), "control.slow": array(2), "control.frozen": array(0)}


@pytest.mark.parametrize("steps", [1, 4])
def test_the_mean_is_over_the_steps(steps: int) -> None:
    outcome = RULE.end(RoundInput({"w": array(1)}), RoundResult({"w": array(1)}, {"w": array(0)}, steps, {"w": 1.0}))
    assert outcome.kept["w"] == torch.tensor([1 / steps]).numpy()
