"""Patient-level percentile bootstrap: how much a statistic would vary with other patients of the same kind."""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import FloatArray, Statistic

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_interval(
    predictions: Sequence[CasePrediction], statistic: Statistic, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Return (low, high), the percentile interval of `statistic` over resampled patients.

    A patient is drawn with all of their cases. None where `percentile_interval` says so, or with fewer than two
    patients. Efron & Tibshirani 1993, chapter 13.
    """
    return percentile_interval(bootstrap(predictions, statistic, seed, resamples))


def bootstrap(
    predictions: Sequence[CasePrediction], statistic: Statistic, seed: int, resamples: int = RESAMPLES
) -> FloatArray:
    """Return the statistic of each resample, NaN where undefined; empty with fewer than two patients.

    Two lists over the same patients with the same seed are resampled alike, whatever their order: the difference of
    their values, resample by resample, is a paired bootstrap.
    """
    patients = sorted({prediction.patient_id for prediction in predictions})
    if len(patients) < 2:
        return np.zeros(0)
    chances = np.full(len(patients), 1 / len(patients))
    drawn = np.random.default_rng(seed).multinomial(len(patients), chances, size=resamples).astype(np.float64)
    column = {patient: index for index, patient in enumerate(patients)}
    return statistic.rows(predictions, drawn[:, [column[prediction.patient_id] for prediction in predictions]])


def percentile_interval(values: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the middle `level` of the values that are defined; None where fewer than half are."""
    usable = values[~np.isnan(values)]
    if not usable.size or 2 * usable.size < values.size:
        return None
    low, high = np.quantile(usable, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)
