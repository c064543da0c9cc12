import math

import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.exchange.released import is_released
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import CASE_STATISTICS, LESION_STATISTICS, mean_of, summarise

POSITIVE = CasePrediction("p", "p", True, 0.9, ((0.9, True),), 1)
NEGATIVE = CasePrediction("n", "n", False, 0.2, ((0.2, False),), 0)


def bare(name: str, label: bool, score: float) -> CasePrediction:
    return CasePrediction(name, name, label, score)


def measured(name: str, **measures: float) -> CasePrediction:
    return CasePrediction(name, name, None, None, measures=measures)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([], set()),
        ([bare("a", True, 0.9), bare("b", False, 0.1)], set(CASE_STATISTICS)),  # no lesions in this task
        ([bare("a", False, 0.9), bare("b", False, 0.1)], {"brier", "calibration_error"}),  # one class
        ([POSITIVE, NEGATIVE], set(CASE_STATISTICS | LESION_STATISTICS)),
        ([NEGATIVE, bare("b", False, 0.1)], {"brier", "calibration_error"}),  # a detection task without a lesion
        ([measured("a", gland_dice=0.5), measured("b", pirads_rps=0.1)], {"gland_dice", "pirads_rps"}),  # no score
        (
            [POSITIVE, bare("b", True, 0.1)],
            set(CASE_STATISTICS | LESION_STATISTICS) - {"auroc", "picai_score"},  # which need a negative
        ),
    ],
)
def test_only_what_is_defined_is_present(predictions: list[CasePrediction], expected: set[str]) -> None:
    summary = summarise(predictions, seed=0)
    assert {key for key in summary if not key.endswith(("_low", "_high"))} == expected
    assert all(is_released(f"test/{name}", value) for name, value in summary.items())
    assert all(math.isfinite(value) for value in summary.values())


def test_values_lie_within_their_intervals() -> None:
    predictions = [CasePrediction(str(i), str(i), i % 3 == 0, (i * 7 % 10) / 10) for i in range(40)]
    summary = summarise(predictions, seed=0)
    for name in CASE_STATISTICS:
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]


def test_a_measure_is_averaged_over_the_cases_that_have_it() -> None:
    cases = [measured("a", gland_dice=0.5), measured("b", gland_dice=0.8), measured("c", pz_dice=0.1)]
    assert summarise(cases, seed=0)["gland_dice"] == pytest.approx(0.65)
    assert mean_of("gland_dice").rows(cases, np.array([[3.0, 1.0, 9.0]])) == pytest.approx([2.3 / 4])
    assert mean_of("tz_dice")(cases) is None
    with pytest.raises(DataError, match="diverged"):
        mean_of("pz_dice")([measured("a", pz_dice=math.nan)])


def test_a_case_without_diagnosis_does_not_enter_what_needs_one() -> None:
    cases = [CasePrediction(str(i), str(i), i % 3 == 0, (i * 7 % 10) / 10) for i in range(20)]
    unknown = [CasePrediction("u", "u", None, 0.9), CasePrediction("v", "v", True, None)]
    for name, statistic in CASE_STATISTICS.items():
        assert statistic(cases + unknown) == statistic(cases), name
        assert statistic(unknown) is None


def test_lesion_sensitivity_is_told_at_four_rates_of_false_positives() -> None:
    found = tuple((0.9 - 0.1 * rank, rank in (2, 5)) for rank in range(6))  # hits after 2 and 4 false positives
    cases = [CasePrediction("p", "p", True, 0.9, found, 2)]
    cases += [CasePrediction(str(i), str(i), False, 0.0) for i in range(3)]
    summary = summarise(cases, seed=0)
    assert summary["lesion_sensitivity_at_0_1_fp"] == 0.0
    assert summary["lesion_sensitivity_at_0_5_fp"] == 0.5  # 2 in 4 cases
    assert summary["lesion_sensitivity"] == summary["lesion_sensitivity_at_2_fp"] == 1.0


def test_nothing_of_a_case_is_in_a_summary() -> None:
    assert all(isinstance(value, float) for value in summarise([POSITIVE, NEGATIVE], seed=0).values())


def test_a_diverged_model_is_said_to_be_one() -> None:
    with pytest.raises(DataError, match="diverged"):
        summarise([bare("a", True, math.nan), bare("b", False, 0.1)], seed=0)
