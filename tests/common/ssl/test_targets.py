"""Targets follow by exponential moving average."""

import pytest
import torch
from torch import nn

from prostafed.common.ssl.targets import follow


def make_network() -> nn.ModuleDict:
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1), "target_encoder": nn.Linear(1, 1)})
    with torch.no_grad():
        for name, value in (("encoder", 1.0), ("target_encoder", 3.0)):
            network[name].weight.fill_(value)
    return network


def test_by_hand() -> None:
    network = make_network()
    follow(network, {"target_encoder": "encoder"}, momentum=0.75)
    assert network["target_encoder"].weight.item() == pytest.approx(2.5)
    follow(network, {"target_encoder": "encoder"}, momentum=0.75)
    assert network["target_encoder"].weight.item() == pytest.approx(2.125)
    assert network["encoder"].weight.item() == 1


def test_without_momentum_the_target_is_a_copy_that_stays_behind() -> None:
    network = make_network()
    network["encoder"] = nn.Linear(3, 3)
    network["target_encoder"] = nn.Linear(3, 3)
    follow(network, {"target_encoder": "encoder"}, momentum=0.0)
    assert torch.equal(network["target_encoder"].weight, network["encoder"].weight)
    assert torch.equal(network["target_encoder"].bias, network["encoder"].bias)
    with torch.no_grad():
        network["encoder"].weight.add_(1.0)
    assert not torch.equal(network["target_encoder"].weight, network["encoder"].weight)
