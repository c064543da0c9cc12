"""SCAFFOLD: control variates correct the drift of sites (Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, ICML 2020).

The server's control variate c travels as tensors `control.NAME` beside the shared ones; the site's own c_i stays here,
and its change goes back under the same names.
"""

import numpy as np

from prostafed.client.training.rules.rule import RoundInput, RoundResult, Rule, RuleOutput, add_constant
from prostafed.client.training.step import Adjust
from prostafed.common.aggregation import AGGREGATORS, ScaffoldParameters
from prostafed.common.tensors import Tensors

PREFIX = AGGREGATORS["scaffold"].sends


def build(parameters: ScaffoldParameters) -> Rule:
    """Return the rule: the gradient becomes g - c_i + c (Algorithm 1, line 10); the server's step size is its own."""
    return Rule(adjust=_adjust, end=_end)


def _adjust(given: RoundInput) -> Adjust:
    server, own = controls(given)
    return add_constant({name: server[name] - own[name] for name in own})


def _end(given: RoundInput, trained: RoundResult) -> RuleOutput:
    """Option II (line 12): c_i+ = c_i - c + (x - y_i) / (K eta_l), for what was trained; the rest keeps its c_i."""
    server, own = controls(given)
    updated = dict(own)
    for name, rate in trained.rates.items():
        if name in own:
            mean_step = (trained.begun[name] - trained.ended[name]) / (trained.steps * rate)
            updated[name] = (own[name] - server[name] + mean_step).astype(own[name].dtype)
    return RuleOutput(kept=updated, sent={PREFIX + name: updated[name] - own[name] for name in updated})


def controls(given: RoundInput) -> tuple[Tensors, Tensors]:
    """Return c and c_i by the names of the floating shared tensors; zeros where there is none yet."""
    zeros = {
        name: np.zeros_like(array) for name, array in given.shared.items() if np.issubdtype(array.dtype, np.floating)
    }
    server = {name: given.extra.get(PREFIX + name, zero) for name, zero in zeros.items()}
    own = {name: given.kept.get(name, zero) for name, zero in zeros.items()}
    return server, own
