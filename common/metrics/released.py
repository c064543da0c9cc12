"""The numbers that may leave a site and within what each of them lies: a site releases by this list, the server admits
by it.
"""

from dataclasses import dataclass
from functools import cache

from prostafed.common.imaging.folds import SPLITS
from prostafed.common.metrics.cohort import COHORT_KEYS
from prostafed.common.metrics.histogram_floats import HISTOGRAM_KEYS
from prostafed.common.metrics.summary import STATISTICS, WITHHELD_KEYS

COHORT = "cohort"  # in the place of a split: counts of cases by attribute
MOST_COUNTED = 10**7  # cases, steps, candidates
_LARGEST_LOSS = 3.5e38  # what float32 holds: a study that diverges says so, and is not turned away for it
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Range:
    """The least and the largest value of a metric, and whether it is a whole number."""

    least: float
    most: float
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the range; NaN and infinity never do."""
        return self.least <= value <= self.most and (not self.whole or float(value).is_integer())


_COUNT = Range(0, MOST_COUNTED, whole=True)
_FRACTION = Range(-_ROUNDING, 1 + _ROUNDING)
_UNITS = {  # of the statistics that are not a fraction, by the end of their names
    "_hd95_mm": Range(0, 1e5),
    "_volume_difference": Range(0, MOST_COUNTED),
}


@cache
def _ranges() -> dict[str, Range]:
    counted = ("steps", "generated", "n", "positives", *WITHHELD_KEYS, *HISTOGRAM_KEYS)
    ranges = {"loss": Range(-_LARGEST_LOSS, _LARGEST_LOSS)} | dict.fromkeys(counted, _COUNT)
    for statistic in STATISTICS:
        kind = next((unit for end, unit in _UNITS.items() if statistic.endswith(end)), _FRACTION)
        ranges |= {f"{statistic}{end}": kind for end in ("", "_low", "_high")}
    return ranges


def find_range(name: str) -> Range | None:
    """Return within what the metric `name`, "split/metric" or "cohort/attribute/value", lies; None where it is not one
    that may leave a site.
    """
    split, _, metric = name.partition("/")
    if split == COHORT:
        return _COUNT if metric in COHORT_KEYS else None
    return _ranges().get(metric) if split in SPLITS else None


def is_released(name: str, value: float) -> bool:
    """Whether a metric is on the list and its value in its range; true of nothing that is not finite."""
    found = find_range(name)
    return found is not None and found.holds(value)
