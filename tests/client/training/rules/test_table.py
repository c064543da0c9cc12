"""Every rule an aggregator asks for is in the table, and takes the aggregator's parameters."""

import numpy as np
import pytest

from prostafed.client.training.rules import RULES, build_rule
from prostafed.client.training.rules.rule import RoundInput, RoundResult
from prostafed.common.aggregation import AGGREGATORS


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_has_its_rule(name: str) -> None:
    rule = build_rule(name, AGGREGATORS[name].parameters())
    assert rule.begin(RoundInput({})) == {}, "a site that shares nothing is no special case"


def test_no_rule_is_without_an_aggregator() -> None:
    assert {entry.rule for entry in AGGREGATORS.values()} == set(RULES)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_table_says_what_a_rule_sends_beside_the_shared_tensors(name: str) -> None:
    entry, shared = AGGREGATORS[name], {"encoder.weight": np.ones(2, np.float32), "encoder.count": np.ones(1, np.int64)}
    rule = build_rule(name, entry.parameters())
    sent = rule.end(RoundInput(shared), RoundResult(shared, shared, steps=1, rates={"encoder.weight": 0.1})).sent
    assert set(sent) == ({f"{entry.sends}encoder.weight"} if entry.sends else set())
