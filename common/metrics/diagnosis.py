"""How well case scores tell csPCa from the rest: AUROC, average precision, Brier score.

AUROC           area under the ROC curve, ties counting half; None where a class is missing
AVERAGE_PRECISION
                sum_t (R_t - R_{t-1}) P_t over distinct scores, without interpolation, as
                `sklearn.metrics.average_precision_score`; None without a positive case
BRIER           mean squared distance between probability and outcome, 0 best (Brier 1950); None without cases

Each raises DataError where a score is not finite.
"""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import auroc_rows, average_precision_rows, ratio
from prostafed.common.metrics.statistic import FloatArray, Statistic, labels_and_scores


def _average_precision(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    labels, scores, judged = labels_and_scores(predictions, weights)
    return average_precision_rows(labels, scores, judged, judged @ labels.astype(np.float64))


def _brier(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    labels, scores, judged = labels_and_scores(predictions, weights)
    return ratio(judged @ (scores - labels) ** 2, judged.sum(axis=1))


AUROC = Statistic(lambda predictions, weights: auroc_rows(*labels_and_scores(predictions, weights)))
AVERAGE_PRECISION = Statistic(_average_precision)
BRIER = Statistic(_brier)
