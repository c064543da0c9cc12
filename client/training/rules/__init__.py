"""The RULES table: what a site does beside training and sending, where the study's aggregator asks for it."""

from collections.abc import Callable
from typing import Any

from prostafed.client.training.rules import ditto, fedema, fedu, prox, scaffold
from prostafed.client.training.rules.rule import Rule
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.settings import Settings

__all__ = ["RULES", "build_rule"]

# rule -> builder, given the aggregator's parameters; "" is no rule
RULES: dict[str, Callable[[Any], Rule]] = {
    "": lambda parameters: Rule(),
    "prox": prox.build,
    "scaffold": scaffold.build,
    "ditto": ditto.build,
    "fedu": fedu.build,
    "fedema": fedema.build,
}


def build_rule(aggregator: str, parameters: Settings) -> Rule:
    """Return the rule that goes with an aggregator, with `parameters` of the class AGGREGATORS names for it."""
    return RULES[AGGREGATORS[aggregator].rule](parameters)
