"""The numbers that may leave a site and within what each of them lies: a site releases by this list, the server admits
by it.
"""

from dataclasses import dataclass
from functools import cache
from math import isfinite

from prostafed.common.imaging.folds import SPLITS
from prostafed.common.metrics.cohort import COHORT_KEYS
from prostafed.common.metrics.histogram_floats import HISTOGRAM_KEYS
from prostafed.common.metrics.measure import Measure
from prostafed.common.metrics.summary import LESIONS, LOSS, POSITIVES, STATISTICS, WITHHELD, N
from prostafed.common.tasks import TASKS, TaskEntry, list_measures

COHORT = "cohort"  # in the place of a split: counts of cases by attribute
MOST_COUNTED = 10**7  # cases, steps, candidates
_LARGEST_LOSS = 3.5e38  # what float32 holds: a study that diverges says so, and is not turned away for it
_ROUNDING = 1e-6
_FRACTION = Measure("", "")  # as all STATISTICS are


@dataclass(frozen=True)
class Range:
    """The least and the largest value of a metric, and whether it is a whole number."""

    least: float
    most: float
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the range; NaN and infinity never do."""
        return self.least <= value <= self.most and isfinite(value) and (not self.whole or float(value).is_integer())


_COUNT = Range(0, MOST_COUNTED, whole=True)


@cache
def _ranges(tasks: tuple[tuple[str, TaskEntry], ...]) -> dict[str, Range]:
    """`tasks` is what TASKS holds, whose measures may leave."""
    measures = list_measures(name for name, _ in tasks)
    withheld = (f"{WITHHELD}/{group}" for group in (N, POSITIVES, LESIONS, LOSS, *measures))
    ranges = {LOSS: Range(-_LARGEST_LOSS, _LARGEST_LOSS)}
    ranges |= dict.fromkeys(("steps", "generated", N, POSITIVES, *withheld, *HISTOGRAM_KEYS), _COUNT)
    for name, measure in (dict.fromkeys(STATISTICS, _FRACTION) | measures).items():
        found = Range(measure.least - _ROUNDING, measure.most + _ROUNDING)
        ranges |= {f"{name}{end}": found for end in ("", "_low", "_high")}
    return ranges


def find_range(name: str) -> Range | None:
    """Return within what the metric `name`, "split/metric" or "cohort/attribute/value", lies; None where it is not one
    that may leave a site.
    """
    split, _, metric = name.partition("/")
    if split == COHORT:
        return _COUNT if metric in COHORT_KEYS else None
    return _ranges(tuple(TASKS.items())).get(metric) if split in SPLITS else None


def is_released(name: str, value: float) -> bool:
    """Whether a metric is on the list and its value in its range; true of nothing that is not finite."""
    found = find_range(name)
    return found is not None and found.holds(value)
