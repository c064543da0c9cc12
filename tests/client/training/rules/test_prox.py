"""FedProx: the pull by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from prostafed.client.training.loop import Continuation
from prostafed.client.training.optimisers import Optimisation
from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, pull_towards
from prostafed.common.aggregation import ProxParameters
from tests.client.training.learn import learn

ANCHOR = {"weight": np.array([[1.0, 2.0, 3.0]], np.float32)}


def make_network() -> nn.Linear:
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[2.0, 2.0, 0.0]]))
        network.bias.fill_(5.0)
    return network


def test_mu_times_the_distance_is_added_to_shared_parameters_only() -> None:
    network = make_network()
    network.weight.grad, network.bias.grad = torch.tensor([[1.0, 1.0, 1.0]]), torch.tensor([7.0])
    adjust = build_rule("fedprox", ProxParameters(mu=0.5)).adjust(RoundInput(ANCHOR))
    assert adjust is not None
    adjust(network)
    assert network.weight.grad.tolist() == [[1.5, 1.0, -0.5]]
    assert network.bias.grad.tolist() == [7.0], "the bias is no shared tensor here"


def test_it_is_the_gradient_of_the_penalty() -> None:
    network = make_network()
    (0.5 * 0.5 * ((network.weight - torch.from_numpy(ANCHOR["weight"])) ** 2).sum()).backward()
    expected = network.weight.grad
    assert expected is not None
    network.weight.grad = torch.zeros(1, 3)
    pull_towards(ANCHOR, 0.5)(network)
    assert torch.equal(network.weight.grad, expected)


def test_a_frozen_parameter_stays_without_gradient() -> None:
    network = make_network()
    pull_towards(ANCHOR, 0.5)(network)
    assert network.weight.grad is None


@pytest.mark.parametrize(("mu", "same"), [(0.0, True), (0.1, False)])
def test_mu_0_is_no_rule(mu: float, same: bool) -> None:
    def train(continuation: Continuation) -> torch.Tensor:
        network, data = make_network(), torch.arange(12.0).view(4, 3) / 10
        settings = Optimisation(3, 2, 1e-2, 0.0, 1)
        learn(network, lambda batch, _: lambda part: (network(data[batch][part]) ** 2).mean(), 4, settings,
              continuation=continuation)  # fmt: skip
        return network.weight.detach()

    assert torch.equal(train(Continuation()), train(Continuation(adjust=pull_towards(ANCHOR, mu)))) == same
