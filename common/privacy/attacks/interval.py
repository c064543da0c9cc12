"""95 % intervals of shares and means."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean

import numpy as np

from prostafed.common.metrics.bootstrap import RESAMPLES, percentile_interval

Z = 1.959964  # of a normal distribution, 95 % two-sided


def share_interval(hits: float, count: int) -> tuple[float, float, float]:
    """Return the share hits / count and its Wilson score interval; raises ValueError where nothing was counted.

    Wilson 1927. `hits` may be a fraction, where a guess is among several that are alike.
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"Expected hits among 1 or more, found {hits} of {count}.")
    share, square = hits / count, Z * Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z * sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def mean_interval(values: Sequence[float], seed: int) -> tuple[float, float, float]:
    """Return the mean of `values` and its percentile bootstrap interval; of a single value, of which no interval can
    be known, raises ValueError.
    """
    if len(values) < 2:
        raise ValueError(f"Expected two values or more, found {len(values)}.")
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    interval = percentile_interval(np.asarray(values, dtype=np.float64)[drawn].mean(axis=1))
    assert interval is not None
    mean = fmean(values)
    return mean, min(mean, interval[0]), max(mean, interval[1])
