"""The series that may become a sequence, the best first; and where to say why one cannot."""

import math
from collections.abc import Callable, Iterable

from prostafed.client.ingest.findings import SourceError
from prostafed.client.ingest.records import Kind, Series

CHOSEN = "chosen in series_map.csv"  # the reason of a series whose kind a person has set

Report = Callable[[SourceError, Series | None], None]  # takes what cannot be used, and of which series


def rank_series(series: Iterable[Series], kind: Kind) -> list[Series]:
    """Return the axial series of a kind, those a person chose alone, the best first.

    What its headers name comes before what only looks like it (": check"), trace images before single directions, most
    slices before fewer, then the finest pixels.
    """
    found = [each for each in series if each.kind == kind and (each.plane == "axial" or each.reason == CHOSEN)]
    return sorted([each for each in found if each.reason == CHOSEN] or found, key=_get_rank)


def _get_rank(series: Series) -> tuple[bool, bool, int, float, int, str]:
    guessed = series.reason.endswith(": check")
    directional = any(each.directional for each in series.slices)
    pixel_mm = min((max(each.pixel_spacing_mm) for each in series.slices if each.pixel_spacing_mm), default=math.inf)
    return guessed, directional, -len(series.slices), pixel_mm, series.number or 0, series.uid
