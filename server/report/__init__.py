"""The report of a run, rebuilt from its run folder alone. Plotting is loaded when a report is written, not before."""

from dataclasses import asdict
from pathlib import Path
from typing import Any


def write_report(run: Path) -> Path:
    """Write `run`/report.html, with each plot beside it as CSV and SVG in `run`/plots, and return its path.

    Raises DataError where `run` is not a run folder.
    """
    from prostafed.server.report.page import write_page

    return write_page(run)


def last_words(run: Path) -> list[str]:
    """Return what a person must hear of a run that came to its end: one sentence or two per shortcoming, none where
    there is none.

    Raises DataError where `run` is not a run folder.
    """
    from prostafed.server.records.read import read_run
    from prostafed.server.report.shortcomings import list_shortcomings

    return [f"{notice.title}. {notice.text}" for notice in list_shortcomings(read_run(run))]


def describe_ending(run: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return the last sentence on a run, and who did not take part to its end, ready for JSON: nobody, in a run with
    everybody.

    Raises DataError where `run` is not a run folder.
    """
    from prostafed.server.records.read import read_run
    from prostafed.server.report.missing import find_missing, say_ending

    read = read_run(run)
    return say_ending(read), [asdict(each) for each in find_missing(read)]


def summary_table(run: Path) -> list[dict[str, Any]]:
    """Return one row per stage, metric, arm and site (or mean over sites, or worst site); ready for JSON.

    Raises DataError where `run` is not a run folder.
    """
    from prostafed.server.records.read import read_run
    from prostafed.server.report.results import measure

    return [result.as_row() for result in measure(read_run(run))]
