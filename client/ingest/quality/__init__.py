"""Quality of the indexed cases: figures per study, pictures, one HTML page and its JSON, for the hospital alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_PICTURES = 60  # cases shown, of perhaps thousands: a page of 4 MB


def write_quality_report(
    cases: Path,
    out: Path,
    site: str,
    on_case: Callable[[int, int], None] = lambda done, count: None,
    pictures: int = MOST_PICTURES,
) -> dict[str, Any]:
    """Write the report on the indexed folder `cases` to `out`, its figures beside it as JSON, and return the figures.

    Raises DataError where `cases` has not been indexed. Plotting is loaded when this is called, not before.
    """
    from prostafed.client.ingest.quality.page import write_page

    return write_page(cases, out, site, pictures, on_case)
