import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from prostafed.common.errors import DataError
from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION, BRIER
from prostafed.common.metrics.predictions import CasePrediction
from tests.common.metrics.of_arrays import auroc, average_precision, brier

NAN = float("nan")


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 1], [0.1, 0.9], 1.0),
        ([0, 1], [0.9, 0.1], 0.0),
        ([0, 1], [0.5, 0.5], 0.5),  # a tie counts half
        ([0, 0, 1], [0.1, 0.7, 0.7], 3 / 4),
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 3 / 4),
        ([1, 1], [0.1, 0.9], None),  # no negative
        ([0, 0], [0.1, 0.9], None),  # no positive
        ([], [], None),
    ],
)
def test_auroc_by_hand(labels: list[int], scores: list[float], expected: float | None) -> None:
    with np.errstate(all="raise"):  # undefined is asked, not divided
        assert auroc(labels, scores) == expected


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([1, 0], [0.9, 0.1], 1.0),
        ([0, 1], [0.9, 0.1], 1 / 2),
        ([1, 0, 1], [0.9, 0.8, 0.7], (1 + 2 / 3) / 2),
        ([1, 0], [0.5, 0.5], 1 / 2),  # one threshold, not two
        ([0, 0], [0.5, 0.4], None),
        ([], [], None),
    ],
)
def test_average_precision_by_hand(labels: list[int], scores: list[float], expected: float | None) -> None:
    assert average_precision(labels, scores) == pytest.approx(expected) if expected else True
    assert (average_precision(labels, scores) is None) == (expected is None)


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([1, 0], [1.0, 0.0], 0.0),
        ([1, 0], [0.0, 1.0], 1.0),
        ([1], [0.5], 1 / 4),
        ([1, 1], [0.5, 1.0], 1 / 8),
        ([], [], None),
    ],
)
def test_brier_by_hand(labels: list[int], scores: list[float], expected: float | None) -> None:
    assert brier(labels, scores) == expected


CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=40).filter(
    lambda cases: len({label for label, _ in cases}) == 2
)


@given(CASES)
def test_agrees_with_sklearn_with_many_ties(cases: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in cases], [score / 12 for _, score in cases]
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)


@given(CASES)
def test_only_the_order_of_scores_counts(cases: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in cases], np.array([float(score) for _, score in cases])
    for metric in (auroc, average_precision):
        assert metric(labels, np.exp(scores / 3) - 5) == metric(labels, scores)


@given(CASES)
def test_auroc_of_the_opposite_scores_is_the_rest(cases: list[tuple[bool, int]]) -> None:
    labels, scores = [label for label, _ in cases], np.array([float(score) for _, score in cases])
    forward, backward = auroc(labels, scores), auroc(labels, -scores)
    assert forward is not None
    assert backward == pytest.approx(1 - forward, abs=1e-12)


@given(CASES, st.randoms(use_true_random=False))
def test_a_weight_is_a_repetition(cases: list[tuple[bool, int]], random: "np.random.Generator") -> None:
    predictions = [CasePrediction(str(i), str(i), label, score / 12) for i, (label, score) in enumerate(cases)]
    weights = [random.randint(0, 3) for _ in predictions]  # type: ignore[attr-defined]
    repeated = [prediction for prediction, weight in zip(predictions, weights, strict=True) for _ in range(weight)]
    for statistic in (AUROC, AVERAGE_PRECISION, BRIER):
        value = statistic.rows(predictions, np.array([weights], dtype=np.float64))[0]
        expected = statistic(repeated)
        assert value == pytest.approx(NAN if expected is None else expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("metric", [auroc, average_precision, brier])
def test_a_score_without_a_rank_is_refused(metric: object) -> None:
    with pytest.raises(DataError, match="1 of 2 that are NaN or infinite"):
        metric([0, 1], [0.5, NAN])  # type: ignore[operator]
