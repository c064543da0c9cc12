"""Areas under ranking curves for weighted items, one row of weights per resample; ties count as one threshold."""

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.statistic import BoolArray, FloatArray


def auroc_rows(labels: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the area under the ROC curve per row of `weights` (resample, item); NaN where a class has no weight.

    The probability that a positive scores above a negative, ties counting half (Mann-Whitney U / (P N)).
    """
    order, starts = _thresholds(scores)
    if not order.size:
        return np.full(len(weights), np.nan)
    ordered, positive = weights[:, order], labels[order]
    positives = np.add.reduceat(ordered * positive, starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive, starts, axis=1)
    outranked = negatives.sum(axis=1, keepdims=True) - np.cumsum(negatives, axis=1)  # negatives scored lower
    area = np.sum(positives * (outranked + negatives / 2), axis=1)
    return ratio(area, positives.sum(axis=1) * negatives.sum(axis=1))


def average_precision_rows(
    hits: BoolArray, scores: FloatArray, weights: FloatArray, relevant: FloatArray
) -> FloatArray:
    """Return sum_t (R_t - R_{t-1}) P_t per row of `weights` (resample, item); NaN where `relevant` is 0.

    `relevant`, (resample,), counts everything to be found, retrieved or not: what no item hits lowers the area.
    """
    true, false = retrieved(hits, scores, weights)
    gained = np.diff(true, axis=1, prepend=0.0)
    precision = np.divide(true, true + false, out=np.zeros_like(true), where=true + false > 0)
    return ratio(np.sum(gained * precision, axis=1), relevant)


def retrieved(hits: BoolArray, scores: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return true and false positives, (resample, threshold), at each distinct score from the highest down."""
    order, starts = _thresholds(scores)
    if not order.size:
        empty = np.zeros((len(weights), 0))
        return empty, empty
    ordered, hit = weights[:, order], hits[order]
    true = np.cumsum(np.add.reduceat(ordered * hit, starts, axis=1), axis=1)
    false = np.cumsum(np.add.reduceat(ordered * ~hit, starts, axis=1), axis=1)
    return true, false


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return `numerator / denominator`, NaN where the denominator is 0."""
    result: FloatArray = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def _thresholds(scores: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the order by falling score, and where in it each distinct score starts."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    return order, np.flatnonzero(np.diff(ordered, prepend=np.inf) != 0)
