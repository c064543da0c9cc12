"""FedProx: the shared tensors are held to the global ones (Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020)."""

from prostafed.client.training.rules.rule import Rule, pull_towards
from prostafed.common.aggregation import ProxParameters


def build(parameters: ProxParameters) -> Rule:
    """Return the rule: mu (W - W_g) is added to the gradients, that of the paper's mu/2 |W - W_g|^2."""
    return Rule(adjust=lambda given: pull_towards(given.shared, parameters.mu))
