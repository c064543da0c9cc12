"""Patient-level percentile bootstrap: how much a statistic would vary with other patients of the same kind."""

from collections.abc import Callable, Sequence

import numpy as np

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import FloatArray, Statistic

RESAMPLES = 1000
LEVEL = 0.95

AnyStatistic = Statistic | Callable[[Sequence[CasePrediction]], float | None]


def bootstrap_interval(
    predictions: Sequence[CasePrediction],
    statistic: AnyStatistic,
    seed: int,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    *,
    groups: Sequence[str] | None = None,
) -> tuple[float, float] | None:
    """Return (low, high), the percentile interval of `statistic` over resampled patients.

    A patient is drawn with all of their cases. With `groups`, the site of each prediction, each site keeps its number
    of patients. None where `percentile_interval` says so, or with fewer than two patients. Efron & Tibshirani 1993,
    chapter 13.
    """
    return percentile_interval(bootstrap(predictions, statistic, seed, resamples, groups=groups), level)


def bootstrap(
    predictions: Sequence[CasePrediction],
    statistic: AnyStatistic,
    seed: int,
    resamples: int = RESAMPLES,
    *,
    groups: Sequence[str] | None = None,
) -> FloatArray:
    """Return the statistic of each resample, NaN where undefined; empty with fewer than two patients.

    Two lists over the same patients with the same seed are resampled alike, whatever their order: the difference of
    their values, resample by resample, is a paired bootstrap.
    """
    weights = _draw(predictions, groups, resamples, np.random.default_rng(seed))
    if weights is None:
        return np.zeros(0)
    if isinstance(statistic, Statistic):
        return statistic.rows(predictions, weights)
    repeats = weights.astype(np.intp)
    drawn = (np.repeat(np.arange(len(predictions)), row).tolist() for row in repeats)
    values = (statistic([predictions[index] for index in indices]) for indices in drawn)
    return np.array([np.nan if value is None else value for value in values])


def percentile_interval(values: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the middle `level` of the values that are defined; None where fewer than half are."""
    usable = values[~np.isnan(values)]
    if not usable.size or 2 * usable.size < values.size:
        return None
    low, high = np.quantile(usable, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def _draw(
    predictions: Sequence[CasePrediction], groups: Sequence[str] | None, resamples: int, generator: np.random.Generator
) -> FloatArray | None:
    """Return how often each resample holds each case, (resample, case)."""
    sites = ("",) * len(predictions) if groups is None else groups
    patients = [(site, prediction.patient_id) for site, prediction in zip(sites, predictions, strict=True)]
    distinct = sorted(set(patients))
    if len(distinct) < 2:
        return None
    column = {patient: index for index, patient in enumerate(distinct)}
    counts = []
    for site in sorted(set(sites)):
        size = sum(1 for key, _ in distinct if key == site)
        counts.append(generator.multinomial(size, np.full(size, 1 / size), size=resamples))
    drawn = np.concatenate(counts, axis=1).astype(np.float64)
    return np.asarray(drawn[:, [column[patient] for patient in patients]])
