"""Where in a wide cell its cases are likely to score, told from the narrower cells of other sites.

By a few steps of self-consistency (Efron 1967; Turnbull 1976, the maximum likelihood of interval-censored data) from an
even spread. Few, because the converged estimate gathers on single bins (Silverman et al. 1990).
"""

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.histograms import BINS
from prostafed.common.metrics.statistic import FloatArray

STEPS = 5  # of self-consistency
FALL = 2.0  # widths of the next cell over which a site's outermost cell falls off by a factor of e


def spread(starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp], counts: FloatArray) -> FloatArray:
    """Return how many items of each cell [start, stop) are thought to lie in each bin, (cell, BINS).

    A row adds up to the cell's count, of `counts` (cell,): only the place within the cell is estimated.
    """
    likely = _likely(starts, stops)
    density, placed = np.ones(BINS), np.zeros(likely.shape)
    for _ in range(STEPS):
        placed = likely * density * _quotient(counts, likely @ density)[:, np.newaxis]
        density = placed.sum(axis=0)
    return placed


def expected_precision(positives: FloatArray, negatives: FloatArray) -> float:
    """Return the mean over positives of the expected precision at one, of items placed as by `spread`; 0 without any.

    Of the others those in higher bins rank above it, and half of those in its own. The expectation of the ratio is
    taken to be the ratio of the expectations.
    """
    itself = _above(positives * _quotient(np.ones(len(positives)), positives.sum(axis=1))[:, np.newaxis])
    true = 1 + _above(positives.sum(axis=0)) - itself
    total = positives.sum()
    return float((positives * true / (true + _above(negatives.sum(axis=0)))).sum() / total) if total else 0.0


def _likely(starts: npt.NDArray[np.intp], stops: npt.NDArray[np.intp]) -> FloatArray:
    """Return how likely each bin is before other sites are asked, (cell, BINS): 0 outside the cell, 1 inside.

    A site's outermost cells reach to the ends of the scale, where hardly anything lies: they fall off from their inner
    edge, unless they are all that the site has.
    """
    bins = np.arange(BINS)
    likely = ((starts[:, np.newaxis] <= bins) & (bins < stops[:, np.newaxis])).astype(np.float64)
    scale = FALL * (stops - starts)
    inner = (starts > 0) & (stops < BINS)
    joined = stops[:-1] == starts[1:]  # the cells of a site follow one another
    for cell in np.flatnonzero((starts[:-1] == 0) & joined & inner[1:]):
        likely[cell] *= np.exp(-np.maximum(stops[cell] - 1 - bins, 0) / scale[cell + 1])
    for cell in 1 + np.flatnonzero((stops[1:] == BINS) & joined & inner[:-1]):
        likely[cell] *= np.exp(-np.maximum(bins - starts[cell], 0) / scale[cell - 1])
    return likely


def _above(counts: FloatArray) -> FloatArray:
    """Return the counts of all higher bins and half of each bin's own, over the last axis."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1] - counts / 2


def _quotient(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
