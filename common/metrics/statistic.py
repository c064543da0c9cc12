"""A statistic of case predictions, computed for many resamples of the cases at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DataError
from prostafed.common.metrics.predictions import CasePrediction

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Statistic:
    """A number that a list of case predictions has; call it on the list, None = the cases do not define it.

    `rows` takes the predictions and `weights`, float64 (resample, case), how often each resample holds each case; it
    returns one value per resample, NaN where undefined. A bootstrap so costs one sort, not one per resample.
    """

    rows: Callable[[Sequence[CasePrediction], FloatArray], FloatArray]

    def __call__(self, predictions: Sequence[CasePrediction]) -> float | None:
        """Return the statistic of `predictions`, every case once."""
        return defined(self.rows(predictions, np.ones((1, len(predictions))))[0])


def defined(value: float) -> float | None:
    """Return `value` as a float, None for NaN."""
    return None if np.isnan(value) else float(value)


def labels_and_scores(
    predictions: Sequence[CasePrediction], weights: FloatArray
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Return labels, scores and weights (resample, case) of the cases that have both a label and a score.

    Raises DataError where a score is not finite, since it has no rank.
    """
    judged = [index for index, each in enumerate(predictions) if each.label is not None and each.score is not None]
    labels = np.array([predictions[index].label for index in judged], dtype=bool)
    scores = np.array([predictions[index].score for index in judged], dtype=np.float64)
    require_finite(scores)
    return labels, scores, weights[:, judged]


def require_finite(scores: FloatArray) -> None:
    """Raise DataError where `scores` holds NaN or infinity."""
    if bad := int(np.count_nonzero(~np.isfinite(scores))):
        raise DataError(
            f"Expected finite scores, found {bad} of {scores.size} that are NaN or infinite: the model has diverged. "
            "Lower the learning rate of the stage."
        )
