"""What a site says of its predictions: aggregates with intervals, nothing per case."""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.bootstrap import bootstrap_interval
from prostafed.common.metrics.calibration import CALIBRATION_ERROR
from prostafed.common.metrics.detection import LESION_AP, LESION_SENSITIVITY, PICAI_SCORE, lesion_sensitivity
from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION, BRIER
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import ratio
from prostafed.common.metrics.statistic import FloatArray, Statistic, require_finite
from prostafed.common.metrics.structures import STRUCTURE_MEASURES


def mean_of(measure: str) -> Statistic:
    """Return the mean of `measure` over the cases that have it."""

    def rows(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
        having = [index for index, prediction in enumerate(predictions) if measure in prediction.measures]
        values = np.array([predictions[index].measures[measure] for index in having], dtype=np.float64)
        require_finite(values)
        return ratio(weights[:, having] @ values, weights[:, having].sum(axis=1))

    return Statistic(rows)


CASE_STATISTICS: dict[str, Statistic] = {
    "auroc": AUROC,
    "average_precision": AVERAGE_PRECISION,
    "brier": BRIER,
    "calibration_error": CALIBRATION_ERROR,  # against csPCa
}
LESION_STATISTICS: dict[str, Statistic] = {
    "lesion_ap": LESION_AP,
    "lesion_sensitivity": LESION_SENSITIVITY,  # at 1 false positive per case
    "lesion_sensitivity_at_0_1_fp": lesion_sensitivity(0.1),
    "lesion_sensitivity_at_0_5_fp": lesion_sensitivity(0.5),
    "lesion_sensitivity_at_2_fp": lesion_sensitivity(2.0),
    "picai_score": PICAI_SCORE,
}
MEASURES = (*STRUCTURE_MEASURES, "pirads_rps")  # per case, of which the mean is told
MEASURE_STATISTICS = {name: mean_of(name) for name in MEASURES}
STATISTICS = CASE_STATISTICS | LESION_STATISTICS | MEASURE_STATISTICS
SUMMARY_KEYS = tuple(f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high"))


def summarise(predictions: Sequence[CasePrediction], seed: int) -> dict[str, float]:
    """Return every statistic that the cases define, with its 95 % interval as NAME_low and NAME_high.

    Keys are among SUMMARY_KEYS; what is undefined is absent, so no value is NaN: lesion statistics stand only where a
    case has a lesion, means of a measure only where a case has it.
    """
    summary: dict[str, float] = {}
    for name, statistic in STATISTICS.items():
        value = statistic(predictions)
        if value is None:
            continue
        summary[name] = value
        interval = bootstrap_interval(predictions, statistic, seed)
        if interval is not None:
            summary[f"{name}_low"], summary[f"{name}_high"] = interval
    return summary
