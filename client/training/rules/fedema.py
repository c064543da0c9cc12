"""FedEMA: a site starts from a mean of its own network and the global one (Zhuang, Wen, Zhang, ICLR 2022,
arXiv 2204.04385).
"""

import numpy as np

from prostafed.client.training.rules.rule import RoundInput, RoundResult, Rule, RuleOutput, measure_drift
from prostafed.common.aggregation import FedemaParameters
from prostafed.common.tensors import Tensors

_DRIFT, _SCALE, _OWN = "drift", "scale", "own/"


def build(parameters: FedemaParameters) -> Rule:
    """Return the rule: W = mu W_k + (1 - mu) W_g for all that travels, with mu = min(1, lambda_k D_k).

    W_k and D_k are of the site's last round; lambda_k = tau / D_k is fixed the first time, so that its first mu is tau,
    and is the site's own (the paper's autoscaler). Targets are no part of what travels.
    """

    def begin(given: RoundInput) -> Tensors:
        if not given.kept:
            return given.shared
        mu = min(1.0, float(given.kept[_SCALE]) * float(given.kept[_DRIFT]))
        return {
            name: (mu * given.kept[_OWN + name] + (1 - mu) * array).astype(array.dtype)
            for name, array in given.shared.items()
        }

    def end(given: RoundInput, trained: RoundResult) -> RuleOutput:
        drift = measure_drift(trained.begun, trained.ended)
        scale = float(given.kept.get(_SCALE, np.array(0.0))) or (parameters.tau / drift if drift else 0.0)
        own = {_OWN + name: array for name, array in trained.ended.items()}
        return RuleOutput(kept={_DRIFT: np.array(drift), _SCALE: np.array(scale), **own})

    return Rule(begin=begin, end=end)
