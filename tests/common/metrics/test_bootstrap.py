import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from prostafed.common.metrics.bootstrap import bootstrap, bootstrap_interval, percentile_interval
from prostafed.common.metrics.detection import LESION_AP
from prostafed.common.metrics.diagnosis import AUROC
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import Statistic
from tests.common.metrics.of_arrays import auroc


def make_predictions(count: int, seed: int = 0, cases_per_patient: int = 1) -> list[CasePrediction]:
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.4
    scores = np.clip(generator.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    return [
        CasePrediction(str(i), str(i // cases_per_patient), bool(label), float(score))
        for i, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]


def plainly(of: Callable[[Sequence[CasePrediction]], float | None]) -> Statistic:
    """A statistic that is computed anew for each resample, on its cases written out."""

    def rows(predictions: Sequence[CasePrediction], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        repeats = (np.repeat(np.arange(len(predictions)), row.astype(int)) for row in weights)
        values = (of([predictions[index] for index in indices]) for indices in repeats)
        return np.array([np.nan if value is None else value for value in values])

    return Statistic(rows)


MEAN_SCORE = plainly(lambda predictions: float(np.mean([prediction.score for prediction in predictions])))
SLOW_AUROC = plainly(lambda predictions: auroc([p.label for p in predictions], [p.score for p in predictions]))


def test_a_constant_has_no_width() -> None:
    assert bootstrap_interval(make_predictions(20), plainly(lambda predictions: 0.25), seed=1) == (0.25, 0.25)


def test_the_fast_way_equals_the_plain_one() -> None:
    predictions = make_predictions(40, cases_per_patient=2)
    fast, slow = (bootstrap(predictions, way, 5, resamples=200) for way in (AUROC, SLOW_AUROC))
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_same_seed_same_interval() -> None:
    predictions = make_predictions(30)
    assert bootstrap_interval(predictions, AUROC, 3) == bootstrap_interval(predictions, AUROC, 3)
    assert bootstrap_interval(predictions, AUROC, 3) != bootstrap_interval(predictions, AUROC, 4)


def test_the_order_of_cases_is_irrelevant() -> None:
    predictions = make_predictions(30)
    np.testing.assert_allclose(bootstrap(predictions, AUROC, 3), bootstrap(predictions[::-1], AUROC, 3), atol=1e-12)


def test_the_width_is_that_of_the_mean() -> None:
    predictions = make_predictions(400)
    low, high = bootstrap_interval(predictions, MEAN_SCORE, 0, resamples=2000) or (0, 0)
    expected = 2 * 1.96 * np.std([prediction.score for prediction in predictions]) / np.sqrt(400)
    assert high - low == pytest.approx(expected, rel=0.1)


def test_cases_of_one_patient_are_drawn_together() -> None:
    ten_times = [CasePrediction(str(i), str(i // 10), False, float(i // 10)) for i in range(100)]
    once = [CasePrediction(str(i), str(i), False, float(i)) for i in range(10)]
    np.testing.assert_allclose(bootstrap(ten_times, MEAN_SCORE, 0), bootstrap(once, MEAN_SCORE, 0))


@pytest.mark.parametrize("count", [0, 1])
def test_no_interval_without_two_patients(count: int) -> None:
    assert bootstrap_interval(make_predictions(count), plainly(lambda predictions: 0.5), 0) is None


def test_no_interval_where_most_resamples_are_undefined() -> None:
    one_positive = [CasePrediction(str(i), str(i), i == 0, i / 4) for i in range(4)]  # 68 % of resamples hold it
    assert bootstrap_interval(one_positive, AUROC, 0) is not None
    all_positive = [CasePrediction(str(i), str(i), True, i / 4) for i in range(4)]
    assert bootstrap_interval(all_positive, AUROC, 0) is None
    nan = np.nan
    assert percentile_interval(np.array([nan, nan, 1.0])) is None
    assert percentile_interval(np.array([nan, 1.0])) == (1.0, 1.0)


def test_the_level_is_that_of_the_middle() -> None:
    assert percentile_interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))


@pytest.mark.parametrize("statistic", [AUROC, LESION_AP])
def test_a_thousand_resamples_take_less_than_a_second(statistic: Statistic) -> None:
    predictions = make_predictions(300)
    started = time.perf_counter()
    bootstrap(predictions, statistic, 0)
    assert time.perf_counter() - started < 1
