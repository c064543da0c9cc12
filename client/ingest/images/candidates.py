"""The series that may become a sequence, the best first; and where to say why one cannot."""

import math
from collections.abc import Callable, Collection, Iterable

from prostafed.client.findings import SourceError
from prostafed.client.ingest.records import Kind, Series

CHOSEN = "chosen in series_map.csv"  # the reason of a series whose kind a person has set

Report = Callable[[SourceError, Series | None], None]  # takes what cannot be used, and of which series


def rank_series(series: Iterable[Series], kind: Kind) -> list[Series]:
    """Return the axial series of a kind, those a person chose alone, the best first.

    What its headers name comes before what only looks like it (": check"), trace images before single directions, most
    slices before fewer, then the finest pixels, then the later acquisition: one is repeated because the first was bad.
    """
    found = [each for each in series if each.kind == kind and (each.plane == "axial" or each.reason == CHOSEN)]
    found = [each for each in found if each.reason == CHOSEN] or found
    return sorted(sorted(found, key=_get_time, reverse=True), key=_get_rank)


def find_set_aside(used: Series, b_values: Collection[float], series: Iterable[Series]) -> list[Series]:
    """Return what lies beside a used series under its UID, of its kind, plane and one of `b_values` (where given)."""
    beside = [each for each in series if (each.uid, each.kind, each.plane) == (used.uid, used.kind, used.plane)]
    near = [each for each in beside if not b_values or any(_holds(each, b) for b in b_values)]
    return [each for each in near if each != used]


def _holds(series: Series, b_value: float) -> bool:
    return any(abs(each - b_value) <= 0.02 * b_value + 1 for each in series.b_values_s_per_mm2)


def _get_rank(series: Series) -> tuple[bool, bool, int, float]:
    guessed = series.reason.endswith(": check")
    directional = any(each.directional for each in series.slices)
    pixel_mm = min((max(each.pixel_spacing_mm) for each in series.slices if each.pixel_spacing_mm), default=math.inf)
    return guessed, directional, -len(series.slices), pixel_mm


def _get_time(series: Series) -> tuple[str, int, str, str]:
    """When it was acquired; of one time, or none, the higher number is the later."""
    times = (each.acquisition.time for each in series.slices if each.acquisition.time)
    return min(times, default=""), series.number or 0, series.part, series.uid
