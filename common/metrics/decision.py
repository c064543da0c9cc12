"""Whether a biopsy decided by the score does more good than one for everybody, or for nobody: net benefit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.calibration import as_probabilities
from prostafed.common.metrics.statistic import BoolArray, FloatArray

THRESHOLDS = tuple(round(0.01 * percent, 2) for percent in range(1, 51))  # risks of csPCa at which one may decide


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit per case at each threshold, arrays (threshold,). That of a biopsy for nobody is 0 everywhere.

    Where `model` is below `treat_all` or below 0, the model does harm at that threshold.
    """

    thresholds: FloatArray
    model: FloatArray
    treat_all: FloatArray


def decision_curve(
    labels: npt.ArrayLike, scores: npt.ArrayLike, thresholds: Sequence[float] = THRESHOLDS
) -> DecisionCurve | None:
    """Return TP / n - FP / n x t / (1 - t) at each threshold t, where a score of t or more means a biopsy.

    None without cases. `labels` (case,) bool, `scores` (case,) probabilities of csPCa, which have to be calibrated for
    the threshold to mean a risk; `thresholds` in (0, 1). Vickers & Elkin 2006.
    """
    truth, probability = as_probabilities(np.asarray(labels, dtype=bool), scores)
    if not truth.size:
        return None
    curves = [
        np.array([_net_benefit(truth > 0, said, threshold) for threshold in thresholds])
        for said in (probability, np.ones_like(probability))
    ]
    return DecisionCurve(np.array(thresholds, dtype=np.float64), *curves)


def _net_benefit(labels: BoolArray, scores: FloatArray, threshold: float) -> float:
    if not 0 < threshold < 1:
        raise ValueError(f"Expected thresholds above 0 and below 1, found {threshold}.")
    biopsied = scores >= threshold
    true, false = int((biopsied & labels).sum()), int((biopsied & ~labels).sum())
    return (true - false * threshold / (1 - threshold)) / labels.size
