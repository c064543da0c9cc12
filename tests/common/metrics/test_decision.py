import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from prostafed.common.metrics.decision import THRESHOLDS, decision_curve

# 10 cases, 4 with csPCa. At 0.2: 3 found, 2 for nothing. At 0.5: 2 found, 1 for nothing.
LABELS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
SCORES = [0.9, 0.5, 0.3, 0.1, 0.6, 0.2, 0.1, 0.1, 0.0, 0.1]


def test_a_truth_table_by_hand() -> None:
    curve = decision_curve(LABELS, SCORES, (0.2, 0.5, 0.95))
    assert curve is not None
    assert curve.model == pytest.approx(
        [3 / 10 - 2 / 10 / 4, 2 / 10 - 1 / 10, 0.0]
    )  # odds of 0.2 are 1/4, of 0.5 are 1
    assert curve.treat_all == pytest.approx([4 / 10 - 6 / 10 / 4, 4 / 10 - 6 / 10, 4 / 10 - 6 / 10 * 19])
    assert curve.thresholds.tolist() == [0.2, 0.5, 0.95]


def test_a_perfect_model_gains_the_prevalence_and_a_constant_one_is_for_all_or_none() -> None:
    perfect = decision_curve(LABELS, LABELS)
    assert perfect is not None
    assert perfect.model == pytest.approx([4 / 10] * len(THRESHOLDS))
    constant = decision_curve(LABELS, [0.25] * 10)
    assert constant is not None
    below = constant.thresholds <= 0.25
    np.testing.assert_allclose(constant.model, np.where(below, constant.treat_all, 0.0))


def test_biopsies_for_all_gain_nothing_where_the_threshold_is_the_prevalence() -> None:
    curve = decision_curve(LABELS, SCORES, (0.4,))
    assert curve is not None
    assert curve.treat_all == pytest.approx([0.0], abs=1e-12)


@pytest.mark.parametrize("threshold", THRESHOLDS[::7])
def test_as_sklearn_counts(threshold: float) -> None:
    generator = np.random.default_rng(1)
    labels = generator.random(200) < 0.3
    scores = np.round(np.clip(generator.normal(0.3 + 0.3 * labels, 0.2), 0, 1), 2)  # some equal the threshold
    _, false, _, true = confusion_matrix(labels, scores >= threshold).ravel()
    curve = decision_curve(labels, scores, (threshold,))
    assert curve is not None
    assert curve.model[0] == pytest.approx(true / 200 - false / 200 * threshold / (1 - threshold))


def test_without_cases_none_and_thresholds_are_risks() -> None:
    assert decision_curve([], []) is None
    for threshold in (0.0, 1.0):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            decision_curve(LABELS, SCORES, (threshold,))
