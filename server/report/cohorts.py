"""Who the patients are, where sites chose to tell: a table per attribute, and how far each site is from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from prostafed.common.metrics.cohort import ATTRIBUTES, SCANNER_KEYS, measure_shift
from prostafed.server.report.vocabulary import VENDORS

SEQUENCES = ("ADC", "high b")


@dataclass(frozen=True)
class CohortTable:
    """An attribute: a line per value, one column per site; None = hidden, too few patients."""

    name: str
    lines: list[tuple[str, list[float | None]]]
    shifts: list[float | None]  # of each site to all others together, 0 to 1


def tabulate_cohorts(cohorts: Mapping[str, Mapping[str, float]], sites: Sequence[str]) -> list[CohortTable]:
    """Return a table per attribute some of `sites` told of; values nobody has are left out."""
    told = [cohorts.get(site, {}) for site in sites]
    others = [_add([each for each in told if each is not one]) for one in told]
    shifts = [measure_shift(one, rest) for one, rest in zip(told, others, strict=True)]
    tables = []
    for name, (_, values) in ATTRIBUTES.items():
        lines = [(value, [counts.get(f"{name}/{value}") for counts in told]) for value in values]
        kept = [(value, counts) for value, counts in lines if any(count is None or count for count in counts)]
        if any(count is not None for _, counts in kept for count in counts):
            tables.append(CohortTable(name, kept, [each.get(name) for each in shifts]))
    return tables


def list_scanners(cohorts: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Return "Siemens, GE" by site, for those that told."""
    found = {
        site: [key.partition("/")[2] for key in SCANNER_KEYS if counts.get(key)] for site, counts in cohorts.items()
    }
    return {site: ", ".join(VENDORS.get(name, name) for name in names) for site, names in found.items() if names}


def mean_shift(tables: Sequence[CohortTable], place: int) -> float | None:
    """Return the mean over clinical attributes of a site's distance to the others; None where none was told whole."""
    clinical = [table for table in tables if table.name not in SEQUENCES]
    known = [shift for table in clinical if (shift := table.shifts[place]) is not None]
    return fmean(known) if known else None


def _add(cohorts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of what all of them told; a value one of them hides is hidden."""
    whole = [each for each in cohorts if each]
    common = set.intersection(*(set(each) for each in whole)) if whole else set()
    return {key: sum(each[key] for each in whole) for key in common}
