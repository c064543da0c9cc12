"""What a site says of its predictions: aggregates with intervals, nothing per case."""

from collections.abc import Sequence

from prostafed.common.metrics.bootstrap import bootstrap_interval
from prostafed.common.metrics.detection import LESION_AP, LESION_SENSITIVITY, PICAI_SCORE
from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION, BRIER
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import Statistic

CASE_STATISTICS: dict[str, Statistic] = {
    "auroc": AUROC,
    "average_precision": AVERAGE_PRECISION,
    "brier": BRIER,
}
LESION_STATISTICS: dict[str, Statistic] = {
    "lesion_ap": LESION_AP,
    "lesion_sensitivity": LESION_SENSITIVITY,  # at 1 false positive per case
    "picai_score": PICAI_SCORE,
}
STATISTICS = CASE_STATISTICS | LESION_STATISTICS
SUMMARY_KEYS = tuple(f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high"))


def summarise(predictions: Sequence[CasePrediction], seed: int) -> dict[str, float]:
    """Return every statistic that the cases define, with its 95 % interval as NAME_low and NAME_high.

    Keys are among SUMMARY_KEYS; what is undefined is absent, so no value is NaN: lesion statistics stand only where a
    case has a lesion.
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
