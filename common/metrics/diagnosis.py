"""How well case scores tell csPCa from the rest: AUROC, average precision, Brier score."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.calibration import as_probabilities
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import auroc_rows, average_precision_rows, ratio
from prostafed.common.metrics.statistic import FloatArray, Statistic, defined, labels_and_scores, require_finite


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Return the area under the ROC curve, ties counting half; None where a class is missing.

    `labels` (case,) bool, `scores` (case,) in any unit. Raises DataError where a score is not finite.
    """
    truth, ranked = _arrays(labels, scores)
    return defined(auroc_rows(truth, ranked, np.ones((1, truth.size)))[0])


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Return sum_t (R_t - R_{t-1}) P_t over distinct scores, without interpolation; None without a positive case.

    As `sklearn.metrics.average_precision_score`. Raises DataError where a score is not finite.
    """
    truth, ranked = _arrays(labels, scores)
    relevant = np.array([float(truth.sum())])
    return defined(average_precision_rows(truth, ranked, np.ones((1, truth.size)), relevant)[0])


def brier(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    """Return the mean squared distance between probability and outcome, 0 best (Brier 1950); None without cases.

    `labels` (case,) 0/1, or the share v of readers who call a case suspicious: the mean over single votes is larger by
    the mean of v (1 - v), which no model can lower. Raises DataError for values outside [0, 1].
    """
    truth, probability = as_probabilities(labels, scores)
    return float(np.mean((probability - truth) ** 2)) if truth.size else None


def _arrays(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"Expected as many labels as scores, both (case,), found {truth.shape} and {values.shape}.")
    require_finite(values)
    return truth, values


def _auroc(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    return auroc_rows(*labels_and_scores(predictions, weights))


def _average_precision(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    labels, scores, judged = labels_and_scores(predictions, weights)
    return average_precision_rows(labels, scores, judged, judged @ labels.astype(np.float64))


def _brier(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    labels, scores, judged = labels_and_scores(predictions, weights)
    return ratio(judged @ (scores - labels) ** 2, judged.sum(axis=1))


AUROC = Statistic(_auroc)
AVERAGE_PRECISION = Statistic(_average_precision)
BRIER = Statistic(_brier)
