"""How far a probability can be taken at its word: reliability table and expected calibration error.

Against the outcome (histology, 0 or 1), or against the readers: the share of them who call a case suspicious, e.g. a
column of `tasks.pirads.count_votes`. A model that answers 0.6 where three of five readers do is calibrated to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DataError
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import ratio
from prostafed.common.metrics.statistic import FloatArray, Statistic, labels_and_scores, require_finite

BINS = 10


@dataclass(frozen=True)
class ReliabilityRow:
    """The cases whose score lies in (low, high], the first row's also at 0."""

    low: float
    high: float
    cases: int
    predicted: float  # mean score
    observed: float  # share with csPCa, or mean share of readers' votes


def reliability_table(targets: npt.ArrayLike, scores: npt.ArrayLike, bins: int = BINS) -> tuple[ReliabilityRow, ...]:
    """Return a row per bin of equal width that has cases, lowest first (Murphy & Winkler 1977).

    `targets` (case,) labels 0/1 or shares of votes, `scores` (case,) probabilities, both in [0, 1]; else DataError.
    Rows are of few cases: join small ones (`small_cells`) before a table leaves a site.
    """
    observed, predicted = as_probabilities(targets, scores)
    index, edges = _bin(predicted, bins), np.linspace(0, 1, bins + 1)
    rows = []
    for each in np.unique(index).tolist():
        inside = index == each
        means = float(predicted[inside].mean()), float(observed[inside].mean())
        rows.append(ReliabilityRow(float(edges[each]), float(edges[each + 1]), int(inside.sum()), *means))
    return tuple(rows)


def as_probabilities(targets: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return both as float64 (case,); raises DataError where a value is not finite or outside [0, 1]."""
    pair = np.asarray(targets, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        raise ValueError(f"Expected as many targets as scores, both (case,), found {pair[0].shape}, {pair[1].shape}.")
    for name, values in zip(("targets", "scores"), pair, strict=True):
        require_finite(values)
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise DataError(
                f"Expected {name} in [0, 1], found {values.min():.3g} to {values.max():.3g}: "
                "calibration is that of probabilities. Apply the sigmoid first."
            )
    return pair


def _bin(scores: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], scores, side="left")


def error_rows(targets: FloatArray, scores: FloatArray, weights: FloatArray, bins: int = BINS) -> FloatArray:
    """Return the expected calibration error, |observed - predicted| of the reliability table weighted by cases, under
    each row of `weights` (row, case); NaN where a row is 0.

    0 best. Naeini et al. 2015; Guo et al. 2017. With few cases it is above 0 also for a calibrated model, and with wide
    bins errors within one cancel. `targets` and `scores` as in `reliability_table`.
    """
    member = _bin(scores, bins)[:, np.newaxis] == np.arange(bins)  # (case, bin)
    return ratio(np.abs((weights * (targets - scores)) @ member).sum(axis=1), weights.sum(axis=1))


def _calibration_error(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    labels, scores, judged = labels_and_scores(predictions, weights)
    return error_rows(labels.astype(np.float64), scores, judged)


CALIBRATION_ERROR = Statistic(_calibration_error)
