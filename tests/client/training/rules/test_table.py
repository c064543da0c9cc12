"""Every rule an aggregator asks for is there, and takes the aggregator's parameters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.training import rules
from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, RoundResult
from prostafed.common.aggregation import AGGREGATORS, NoParameters
from prostafed.common.errors import ConfigurationError


@pytest.mark.parametrize("name", AGGREGATORS)
def test_every_aggregator_has_its_rule(name: str) -> None:
    rule = build_rule(name, AGGREGATORS[name].parameters())
    assert rule.begin(RoundInput({})) == {}, "a site that shares nothing is no special case"


def test_no_rule_is_without_an_aggregator() -> None:
    written = {path.stem for path in Path(rules.__file__).parent.glob("*.py")} - {"__init__", "rule"}
    assert {entry.rule.rpartition(".")[2] for entry in AGGREGATORS.values() if entry.rule} == written


def test_a_rule_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        AGGREGATORS, "fedavg", replace(AGGREGATORS["fedavg"], rule="prostafed.client.training.rules.proxy")
    )
    with pytest.raises(ConfigurationError, match=r"'fedavg' needs build\(parameters\) in the module .*proxy, its rule"):
        build_rule("fedavg", NoParameters())


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_table_says_what_a_rule_sends_beside_the_shared_tensors(name: str) -> None:
    entry, shared = AGGREGATORS[name], {"encoder.weight": np.ones(2, np.float32), "encoder.count": np.ones(1, np.int64)}
    rule = build_rule(name, entry.parameters())
    sent = rule.end(RoundInput(shared), RoundResult(shared, shared, steps=1, rates={"encoder.weight": 0.1})).sent
    assert set(sent) == ({f"{entry.sends}encoder.weight"} if entry.sends else set())
