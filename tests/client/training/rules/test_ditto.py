"""Ditto: what pulls the personal network."""

import numpy as np
import torch
from torch import nn

from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput
from prostafed.common.aggregation import DittoParameters


def test_the_personal_network_is_pulled_and_the_shared_one_is_not() -> None:
    rule, given = build_rule("ditto", DittoParameters(pull=0.5)), RoundInput({"weight": np.zeros((1, 2), np.float32)})
    assert rule.adjust(given) is None
    assert rule.personal is not None
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, 4.0)
    network.weight.grad, network.bias.grad = torch.zeros(1, 2), torch.zeros(1)
    rule.personal(given)(network)
    assert network.weight.grad.tolist() == [[2.0, 2.0]]
    assert network.bias.grad.tolist() == [0.0]
