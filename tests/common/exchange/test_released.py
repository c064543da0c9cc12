"""What may leave a site, and within which range."""

import pytest

from prostafed.common.exchange.released import find_range, is_released
from prostafed.common.metrics.summary import STATISTICS
from prostafed.common.tasks import TASKS, list_measures


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train/loss", -0.9),  # a similarity, with its sign turned
        ("train/loss", 1e12),  # a study that diverged says so
        ("train/steps", 0.0),
        ("test/positives", 10.0**7),
        ("test/auroc", 1.0),
        ("validation/gland_hd95_mm_high", 31.5),
        ("test/tz_volume_difference", 4.5),
        ("test/score_histogram/positive/017", 12.0),
        ("cohort/csPCa/yes", 30.0),
        ("cohort/scanner/siemens", 1.0),
    ],
)
def test_a_listed_metric_in_its_range(name: str, value: float) -> None:
    assert is_released(name, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)])
def test_nothing_that_is_not_finite(value: float) -> None:
    for name in ("train/loss", "train/steps", "test/auroc", "test/gland_hd95_mm", "cohort/csPCa/yes"):
        assert not is_released(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train/steps", -1.0),
        ("train/steps", 0.5),
        ("test/n", 10.0**7 + 1),
        ("test/auroc", 1.01),
        ("test/auroc_low", -0.01),
        ("test/gland_hd95_mm", -1.0),
        ("test/detection_histogram/lesions", 0.5),
        ("cohort/csPCa/yes", 2.5),
    ],
)
def test_a_listed_metric_out_of_its_range(name: str, value: float) -> None:
    assert not is_released(name, value)


@pytest.mark.parametrize("name", ["loss", "train/age", "case-17/loss", "cohort/name/Smith", "test/auroc/x", "cohort"])
def test_what_is_not_listed(name: str) -> None:
    assert find_range(name) is None
    assert not is_released(name, 0.0)


def test_every_statistic_has_a_range() -> None:
    for name in (*STATISTICS, *list_measures(TASKS)):
        assert all(find_range(f"test/{name}{end}") for end in ("", "_low", "_high"))
        assert (find_range(f"test/withheld/{name}") is None) == (name in STATISTICS)
