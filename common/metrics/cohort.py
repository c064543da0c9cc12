"""Who a site's patients are, in counts it may choose to tell: a table per attribute, small cells hidden.

Each table is told once per study, of all admitted patients; a count below the minimum, and as many others as it takes
that it cannot be had by subtraction, is left out (`small_cells.suppress`). A patient with several studies counts once
per value.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.metrics.small_cells import MINIMUM, suppress

AGES = ((0, "under 55"), (55, "55 to 64"), (65, "65 to 74"), (75, "75 and over"))  # years
PSA = ((0, "under 4"), (4, "4 to 10"), (10, "10 to 20"), (20, "20 and over"))  # ng/ml
VOLUMES = ((0, "under 40"), (40, "40 to 80"), (80, "80 and over"))  # ml
UNKNOWN = "unknown"
CSPCA = "csPCa"


def _banded(value: float | None, bands: Sequence[tuple[float, str]]) -> str:
    return UNKNOWN if value is None else [name for least, name in bands if value >= least][-1]


def _pirads(record: CaseRecord) -> str:
    return str(round(median(record.pirads_reads))) if record.pirads_reads else UNKNOWN


ATTRIBUTES: dict[str, tuple[Callable[[CaseRecord], str], tuple[str, ...]]] = {  # name -> (of a record, its values)
    CSPCA: (lambda record: {True: "yes", False: "no", None: UNKNOWN}[record.cspca], ("yes", "no", UNKNOWN)),
    "PI-RADS": (_pirads, ("1", "2", "3", "4", "5", UNKNOWN)),
    "age": (lambda record: _banded(record.age, AGES), (*(name for _, name in AGES), UNKNOWN)),
    "PSA": (lambda record: _banded(record.psa, PSA), (*(name for _, name in PSA), UNKNOWN)),
    "prostate volume": (
        lambda record: _banded(record.prostate_volume, VOLUMES),
        (*(name for _, name in VOLUMES), UNKNOWN),
    ),
    "ADC": (lambda record: "there" if "adc" in record.sequences else "missing", ("there", "missing")),
    "high b": (lambda record: "there" if "hbv" in record.sequences else "missing", ("there", "missing")),
}
SCANNER_KEYS = tuple(f"scanner/{vendor}" for vendor in ("siemens", "ge", "philips", "uih", "other"))  # 1 = there is one
COHORT_KEYS = frozenset(
    {f"{name}/{value}" for name, (_, values) in ATTRIBUTES.items() for value in values} | set(SCANNER_KEYS)
)


def count_cohort(records: Sequence[CaseRecord], minimum: int = MINIMUM) -> dict[str, float]:
    """Return "attribute/value" -> patients, hidden ones left out; keys are among COHORT_KEYS."""
    told: dict[str, float] = {}
    for name in ATTRIBUTES:
        counts = count_patients(records, name)
        known = {value: count for value, count in counts.items() if value != UNKNOWN}  # their total is told elsewhere
        tables = (suppress(counts, minimum), suppress(known, minimum))
        hidden = {value for table in tables for value, count in table.items() if count is None}
        told |= {f"{name}/{value}": float(count) for value, count in counts.items() if value not in hidden}
    return told


def count_patients(records: Sequence[CaseRecord], attribute: str) -> dict[str, int]:
    """Return how many patients have each value of one of ATTRIBUTES; whoever has several studies may have several."""
    of, values = ATTRIBUTES[attribute]
    found = {(of(record), record.patient_id) for record in records}
    return {value: sum(each == value for each, _ in found) for value in values}


def measure_shift(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Return, per attribute both have told whole (no value hidden), the total variation distance of its distributions:
    half the sum of the differences of shares, 0 the same, 1 nothing in common. Cases of unknown value are left out.
    """
    shifts = {}
    for name, (_, values) in ATTRIBUTES.items():
        keys = [f"{name}/{value}" for value in values if value != UNKNOWN]
        totals = [sum(each.get(key, 0.0) for key in keys) for each in (first, second)]
        if min(totals) > 0 and all(key in each for key in keys for each in (first, second)):
            shifts[name] = sum(abs(first[key] / totals[0] - second[key] / totals[1]) for key in keys) / 2
    return shifts
