"""AUROC and average precision over the cases of all sites, from histograms alone.

Cells of several sites overlap, so that some pairs of cases have no known order. Two things are said about them. What
is sure: the exact pooled value lies between that with every such pair in the wrong order and that with every one in
the right order. What is likely: each cell's cases are spread over its bins as those of all sites are (`placement`).

How near that comes, with 10 patients per cell, over 1,000 simulated federations of 2 to 10 sites: the AUROC is within
0.005 of the exact pooled one in all whose sites have 250 to 800 cases each, and in 94 % of those with 40 to 800. Sites
of 40 alone are too small for it: one in ten, and off by up to 0.12. The bounds hold in all.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prostafed.common.metrics.bootstrap import RESAMPLES, percentile_interval
from prostafed.common.metrics.histograms import BINS, DetectionHistogram, ScoreHistogram
from prostafed.common.metrics.placement import expected_precision, spread
from prostafed.common.metrics.ranking import auroc_rows, average_precision_rows
from prostafed.common.metrics.statistic import BoolArray, FloatArray

Rows = Callable[[BoolArray, FloatArray, FloatArray, FloatArray], FloatArray]  # labels, scores, weights, unfound
BIN_LABELS = np.arange(2 * BINS) < BINS  # positives of every bin, then negatives
BIN_SCORES = np.tile(np.arange(BINS, dtype=np.float64), 2)


@dataclass(frozen=True)
class BinnedEstimate:
    """A pooled value estimated from histograms.

    value            the estimate
    low, high        95 % interval for other cases of the same kind; None without resamples
    lowest, highest  between them lies, for certain, what the cases themselves would give
    """

    value: float
    low: float | None
    high: float | None
    lowest: float
    highest: float


def pooled_auroc(histogram: ScoreHistogram, seed: int = 0, resamples: int = RESAMPLES) -> BinnedEstimate | None:
    """Return the AUROC over all cases in `histogram`; None where a label is missing.

    The interval is a percentile bootstrap that draws cases, not patients, from the estimated distribution: where
    patients have several cases each, it is too narrow. It leaves out the binning, which `lowest` and `highest` bound.
    """
    if not (sum(histogram.positives) and sum(histogram.negatives)):
        return None
    positives, negatives = _place(histogram)
    weights = np.concatenate([positives.sum(axis=0), negatives.sum(axis=0)])
    value = float(auroc_rows(BIN_LABELS, BIN_SCORES, weights[np.newaxis])[0])
    return _surround(value, histogram, weights, 0, lambda *items: auroc_rows(*items[:3]), seed, resamples)


def pooled_average_precision(
    histogram: ScoreHistogram, seed: int = 0, resamples: int = RESAMPLES
) -> BinnedEstimate | None:
    """Return the average precision over all cases in `histogram`; None without a positive.

    The interval is that of `pooled_auroc`; its resamples rank by bin, with ties.
    """
    return _pooled_precision(histogram, 0, seed, resamples)


def pooled_lesion_ap(histogram: DetectionHistogram, seed: int = 0, resamples: int = RESAMPLES) -> BinnedEstimate | None:
    """Return PI-CAI's average precision over all lesions of all sites; None without a lesion.

    The interval draws candidates and unfound lesions one by one: those of one case go together, so it is too narrow.
    """
    unfound = histogram.lesions - sum(histogram.candidates.positives)
    return _pooled_precision(histogram.candidates, unfound, seed, resamples)


def _pooled_precision(histogram: ScoreHistogram, unfound: int, seed: int, resamples: int) -> BinnedEstimate | None:
    found = sum(histogram.positives)
    if found + unfound == 0:
        return None
    positives, negatives = _place(histogram)
    weights = np.concatenate([positives.sum(axis=0), negatives.sum(axis=0)])
    value = expected_precision(positives, negatives) * found / (found + unfound)
    return _surround(value, histogram, weights, unfound, _precision_rows, seed, resamples)


def _precision_rows(labels: BoolArray, bins: FloatArray, weights: FloatArray, unfound: FloatArray) -> FloatArray:
    return average_precision_rows(labels, bins, weights, weights[:, labels].sum(axis=1) + unfound)


def _surround(
    value: float, histogram: ScoreHistogram, weights: FloatArray, unfound: int, rows: Rows, seed: int, resamples: int
) -> BinnedEstimate:
    every = np.append(weights, float(unfound))  # unfound lesions are drawn too
    drawn = np.random.default_rng(seed).multinomial(round(every.sum()), every / every.sum(), size=resamples)
    resampled, lost = drawn[:, :-1].astype(np.float64), drawn[:, -1].astype(np.float64)
    low, high = percentile_interval(rows(BIN_LABELS, BIN_SCORES, resampled, lost)) or (None, None)
    always_lost = np.array([float(unfound)])
    lowest, highest = (float(rows(*_order(histogram, right), always_lost)[0]) for right in (False, True))
    # Between the bounds by construction, but for rounding.
    return BinnedEstimate(min(max(value, lowest), highest), low, high, lowest, highest)


def _order(histogram: ScoreHistogram, right: bool) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Return labels, scores and weights (1, item) with each pair of unknown order in the right one, or the wrong one.

    A positive stands at one end of its cell and a negative at the other, half a bin inside so that they never tie. The
    wrong order also parts the positives of a cell, since the precision at a tie is that at its last.
    """
    starts = np.array(histogram.starts, dtype=np.float64)
    stops = np.array(histogram.stops, dtype=np.float64) - 0.5
    positives = np.repeat(stops if right else starts, histogram.positives)
    negatives = np.repeat(starts if right else stops, histogram.negatives)
    if not right:
        positives = positives - 0.25 * np.arange(positives.size) / max(positives.size, 1)
    scores = np.concatenate([positives, negatives])
    return np.arange(scores.size) < positives.size, scores, np.ones((1, scores.size))


def _place(histogram: ScoreHistogram) -> tuple[FloatArray, FloatArray]:
    starts, stops = np.array(histogram.starts, dtype=np.intp), np.array(histogram.stops, dtype=np.intp)
    positives, negatives = (np.array(counts, dtype=np.float64) for counts in (histogram.positives, histogram.negatives))
    return spread(starts, stops, positives), spread(starts, stops, negatives)
