"""What a site says of its predictions: aggregates with intervals, nothing per case, and nothing of few patients.

A statistic is withheld where one of the groups it counts or compares is of fewer than the minimum of patients, one
after the other: all of them ("n"); those with csPCa, without, and of unknown diagnosis ("positives"); those with and
without a lesion ("lesions"); those who have a measure (its own name). A group of nobody is no small group. The size of
both classes matters, not that of all patients alone: the AUROC is a whole number of pairs over their product, and the
Brier score of a network that always says the same is the share of positives, so that either gives the smaller count
away.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from prostafed.common.metrics.bootstrap import bootstrap_interval
from prostafed.common.metrics.calibration import CALIBRATION_ERROR
from prostafed.common.metrics.detection import LESION_AP, LESION_SENSITIVITY, PICAI_SCORE, lesion_sensitivity
from prostafed.common.metrics.diagnosis import AUROC, AVERAGE_PRECISION, BRIER
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import ratio
from prostafed.common.metrics.small_cells import is_small
from prostafed.common.metrics.statistic import FloatArray, Statistic, require_finite


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
STATISTICS = CASE_STATISTICS | LESION_STATISTICS  # against csPCa; the measures of tasks are beside them


N, POSITIVES, LESIONS, LOSS = "n", "positives", "lesions", "loss"
WITHHELD = "withheld"  # before what is withheld; in the place of its value stands the minimum of patients
GROUPS_OF: dict[str, tuple[str, ...]] = {
    LOSS: (LOSS,),
    **dict.fromkeys(CASE_STATISTICS, (N, POSITIVES)),
    **dict.fromkeys(LESION_STATISTICS, (N, LESIONS)),
    "picai_score": (N, POSITIVES, LESIONS),
}


def statistic_of(name: str) -> Statistic:
    """Return the statistic `name`, of a measure its mean."""
    return STATISTICS.get(name) or mean_of(name)


def groups_of(name: str) -> tuple[str, ...]:
    """Return the groups of patients that the statistic `name` counts or compares."""
    return GROUPS_OF.get(name, (N, name))


def find_small(predictions: Sequence[CasePrediction], minimum: int) -> frozenset[str]:
    """Return the groups, by the names in `groups_of`, of which one is of fewer than `minimum` patients, but not nobody;
    "n" alone where all are: then it is not even told whether the others are.
    """

    def few(*groups: Iterable[CasePrediction]) -> bool:
        return is_small([len({each.patient_id for each in group}) for group in groups], minimum)

    if few(predictions):
        return frozenset({N})
    unknown = [each for each in predictions if None in (each.label, each.score)]
    known = [each for each in predictions if None not in (each.label, each.score)]
    of_label = [[each for each in known if each.label is label] for label in (True, False)]
    of_lesions = [[each for each in predictions if bool(each.lesions) is has] for has in (True, False)]
    small = {
        name for name in _list_measures(predictions) if few([each for each in predictions if name in each.measures])
    }
    if known and few(*of_label, unknown):
        small.add(POSITIVES)
    if few(*of_lesions):
        small.add(LESIONS)
    return frozenset(small)


def summarise(predictions: Sequence[CasePrediction], seed: int, small: Collection[str] = ()) -> dict[str, float]:
    """Return every statistic that the cases define and no `small` group touches, with its 95 % interval as NAME_low and
    NAME_high.

    Statistics are those of STATISTICS and the means of the cases' measures. What is undefined is absent, so no value is
    NaN: lesion statistics stand only where a case has a lesion, means of a measure only where a case has it.
    """
    summary: dict[str, float] = {}
    for name in (*STATISTICS, *_list_measures(predictions)):
        statistic = statistic_of(name)
        value = None if set(groups_of(name)) & set(small) else statistic(predictions)
        if value is None:
            continue
        summary[name] = value
        interval = bootstrap_interval(predictions, statistic, seed)
        if interval is not None:
            summary[f"{name}_low"], summary[f"{name}_high"] = interval
    return summary


def _list_measures(predictions: Sequence[CasePrediction]) -> list[str]:
    return list(dict.fromkeys(name for each in predictions for name in each.measures))
