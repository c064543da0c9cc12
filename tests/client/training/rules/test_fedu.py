"""FedU: whose predictor training starts from."""

import numpy as np
import pytest

from prostafed.client.training.rules import build_rule
from prostafed.client.training.rules.rule import RoundInput, RoundResult
from prostafed.common.aggregation import FeduParameters
from prostafed.common.tensors import Tensors


def tensors(encoder: float, predictor: float) -> Tensors:
    return {"encoder.weight": np.full((1, 1, 1, 1, 1), encoder), "predictor.weight": np.full(2, predictor)}


@pytest.mark.parametrize(("drift", "own"), [(0.39, False), (0.4, True), (2.0, True)])
def test_a_site_keeps_its_predictor_from_the_threshold_on(drift: float, own: bool) -> None:
    rule = build_rule("fedu", FeduParameters(threshold=0.4))
    first = RoundInput(tensors(0, 0))
    assert rule.begin(first) == first.shared, "at first there is nothing of its own"
    kept = rule.end(first, RoundResult(tensors(0, 0), tensors(drift, 5), 1, {})).kept
    begun = rule.begin(RoundInput(tensors(7, 8), kept=kept))
    assert begun["encoder.weight"].item() == 7, "the encoder is the one received"
    assert begun["predictor.weight"].tolist() == ([5, 5] if own else [8, 8])


def test_nothing_is_sent_beside() -> None:
    rule = build_rule("fedu", FeduParameters())
    assert not rule.end(RoundInput(tensors(0, 0)), RoundResult(tensors(0, 0), tensors(1, 1), 1, {})).sent
    assert rule.adjust(RoundInput(tensors(0, 0))) is None
