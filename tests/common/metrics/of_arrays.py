"""The statistics of case predictions, of plain labels and scores."""

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION, BRIER
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import Statistic


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    return _of(AUROC, labels, scores)


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    return _of(AVERAGE_PRECISION, labels, scores)


def brier(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    return _of(BRIER, labels, scores)


def _of(statistic: Statistic, labels: npt.ArrayLike, scores: npt.ArrayLike) -> float | None:
    pairs = zip(np.asarray(labels, bool).tolist(), np.asarray(scores, float).tolist(), strict=True)
    return statistic([CasePrediction(str(i), str(i), label, score) for i, (label, score) in enumerate(pairs)])
