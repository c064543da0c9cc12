"""FedU: a site whose encoder drifts far keeps its own predictor (Zhuang, Gan, Wen, Zhang, Yi, ICCV 2021)."""

import numpy as np

from prostafed.client.training.rules.rule import RoundInput, RoundResult, Rule, RuleOutput, measure_drift
from prostafed.common.aggregation import FeduParameters
from prostafed.common.tensors import Tensors, select_groups

_DRIFT, _OWN = "drift", "own/"


def build(parameters: FeduParameters) -> Rule:
    """Return the rule, the paper's divergence-aware predictor update: with a drift in the last round of `threshold` or
    more training starts from the site's own predictor, below it from the one received. The encoder is the one received.
    """

    def begin(given: RoundInput) -> Tensors:
        if not given.kept or float(given.kept[_DRIFT]) < parameters.threshold:
            return given.shared
        own = {name: given.kept[_OWN + name] for name in select_groups(given.shared, ("predictor",))}
        return {**given.shared, **own}

    return Rule(begin=begin, end=_end)


def _end(given: RoundInput, trained: RoundResult) -> RuleOutput:
    own = {_OWN + name: array for name, array in select_groups(trained.ended, ("predictor",)).items()}
    return RuleOutput(kept={_DRIFT: np.array(measure_drift(trained.begun, trained.ended)), **own})
