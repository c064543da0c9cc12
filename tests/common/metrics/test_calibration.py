import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from prostafed.common.errors import DataError
from prostafed.common.metrics.calibration import (
    BINS,
    CALIBRATION_ERROR,
    ReliabilityRow,
    as_probabilities,
    error_rows,
    reliability_table,
)
from prostafed.common.metrics.predictions import CasePrediction


def calibration_error(targets: npt.ArrayLike, scores: npt.ArrayLike, bins: int = BINS) -> float | None:
    observed, predicted = as_probabilities(targets, scores)
    return float(error_rows(observed, predicted, np.ones((1, observed.size)), bins)[0]) if observed.size else None


def test_the_table_by_hand() -> None:
    table = reliability_table([0, 1, 1, 1], [0.0, 0.2, 0.4, 0.9], bins=5)
    assert table == (
        ReliabilityRow(0.0, 0.2, 2, pytest.approx(0.1), 0.5),  # 0.2 is in the lower bin
        ReliabilityRow(0.2, 0.4, 1, 0.4, 1.0),
        ReliabilityRow(0.8, 1.0, 1, 0.9, 1.0),
    )
    assert reliability_table([], []) == ()


@pytest.mark.parametrize(
    ("targets", "scores", "expected"),
    [
        ([1, 0], [1.0, 0.0], 0.0),
        ([1, 0], [0.0, 1.0], 1.0),
        ([1, 0, 1, 0], [0.5] * 4, 0.0),  # right on average
        ([1, 1, 1, 0], [0.5] * 4, 1 / 4),
        ([1, 1, 0], [0.9, 0.9, 0.1], (2 * 0.1 + 0.1) / 3),
        ([0.6, 0.6], [0.6, 0.6], 0.0),  # three readers of five: calibrated to them, whatever histology says
        ([0.6, 0.2], [0.9, 0.1], (0.3 + 0.1) / 2),
        ([], [], None),
    ],
)
def test_the_error_by_hand(targets: list[float], scores: list[float], expected: float | None) -> None:
    value = calibration_error(targets, scores)
    assert value is None if expected is None else value == pytest.approx(expected, abs=1e-12)


CASES = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(CASES, st.integers(2, 15))
def test_as_sklearn_says(cases: list[tuple[int, float]], bins: int) -> None:
    labels, scores = [label for label, _ in cases], [score for _, score in cases]
    table = reliability_table(labels, scores, bins)
    observed, predicted = calibration_curve(labels, scores, n_bins=bins, strategy="uniform")
    assert [row.observed for row in table] == pytest.approx(observed.tolist())
    assert [row.predicted for row in table] == pytest.approx(predicted.tolist())
    expected = sum(row.cases * abs(row.observed - row.predicted) for row in table) / len(cases)
    assert calibration_error(labels, scores, bins) == pytest.approx(expected, abs=1e-12)


def test_a_model_of_the_votes_is_calibrated_to_them_and_not_to_histology() -> None:
    generator = np.random.default_rng(0)
    suspicion = generator.uniform(0.1, 0.9, 20_000)
    votes = generator.binomial(5, suspicion) / 5
    cancer = generator.random(20_000) < suspicion**2  # readers call more than there is
    assert calibration_error(votes, suspicion) < 0.01  # type: ignore[operator]
    assert calibration_error(cancer, suspicion) > 0.15  # type: ignore[operator]


def test_the_statistic_weighs_cases() -> None:
    labels, scores, weights = [True, False, True, False], [0.95, 0.92, 0.31, 0.39], [2, 0, 1, 3]
    predictions = [CasePrediction(str(i), str(i), labels[i], scores[i]) for i in range(4)]
    repeated = [i for i, weight in enumerate(weights) for _ in range(weight)]
    expected = calibration_error([labels[i] for i in repeated], [scores[i] for i in repeated])
    assert CALIBRATION_ERROR.rows(predictions, np.array([weights], dtype=float))[0] == pytest.approx(expected)
    assert CALIBRATION_ERROR(predictions) == pytest.approx(calibration_error(labels, scores))
    assert CALIBRATION_ERROR([]) is None


def test_only_probabilities_are_calibrated() -> None:
    with pytest.raises(DataError, match=r"scores in \[0, 1\], found -1 to 0.5"):
        calibration_error([0, 1], [-1.0, 0.5])
    with pytest.raises(DataError, match=r"targets in \[0, 1\], found 0 to 5"):
        calibration_error([0, 5], [0.1, 0.5])
    with pytest.raises(DataError, match="NaN or infinite"):
        reliability_table([0, 1], [np.nan, 0.5])
    with pytest.raises(ValueError, match="as many targets as scores"):
        reliability_table([0], [0.5, 0.5])
