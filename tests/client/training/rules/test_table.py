"""Every rule an aggregator asks for is in the table, and takes the aggregator's parameters."""

import pytest

from prostafed.client.gate.release import BESIDE
from prostafed.client.training.rules import RULES, build_rule
from prostafed.client.training.rules.rule import RoundInput
from prostafed.client.training.rules.scaffold import PREFIX
from prostafed.common.aggregation import AGGREGATORS


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_has_its_rule(name: str) -> None:
    rule = build_rule(name, AGGREGATORS[name].parameters())
    assert rule.begin(RoundInput({})) == {}, "a site that shares nothing is no special case"


def test_no_rule_is_without_an_aggregator() -> None:
    assert {entry.rule for entry in AGGREGATORS.values()} == set(RULES)


def test_the_gate_knows_what_rules_send() -> None:
    assert BESIDE == {"scaffold": PREFIX}
