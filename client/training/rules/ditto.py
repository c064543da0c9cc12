"""Ditto: beside the shared network each site trains one of its own, held to the global one (Li, Hu, Beirami, Smith,
ICML 2021).
"""

from prostafed.client.training.rules.rule import Rule, pull_towards
from prostafed.common.aggregation import DittoParameters


def build(parameters: DittoParameters) -> Rule:
    """Return the rule: lambda (v - W_g) is added to the gradients of the personal network (Algorithm 1), with W_g as it
    was received; the personal network's heads have no global ones to be held to.
    """
    return Rule(personal=lambda given: pull_towards(given.shared, parameters.pull))
