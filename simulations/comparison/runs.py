"""Many runs side by side: cells run one after the other, their results in one table, the table in one page."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError
from prostafed.common.files import make_folder, write_json, write_text
from prostafed.common.study import Study
from prostafed.server.report import summary_table
from prostafed.server.report.tables import write_csv
from prostafed.simulations.comparison.cells import Cell
from prostafed.simulations.run import Simulation, Watchers, run_simulation

Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What is to be run, and where: `base` gives everything but study and folder."""

    cells: Sequence[Cell]
    base: Simulation
    out: Path


def run_comparison(
    comparison: Comparison,
    showing: Callable[[Study], AbstractContextManager[Watchers]],
    on_cell: Callable[[str, int, int], None],
) -> list[Row]:
    """Run every cell that is not finished and return the rows of all: settings, then stage, metric, arm, site, value.

    Written to results.csv, one line per cell, arm, site and metric, and summary.csv, over seeds. Raises
    ConfigurationError where `out` holds another comparison.
    """
    out, rows = make_folder(comparison.out), []
    asked = {"cells": [cell.name for cell in comparison.cells], "study": comparison.base.study.hash()}
    _claim(out, asked)
    for number, cell in enumerate(comparison.cells, start=1):
        on_cell(cell.name, number, len(comparison.cells))
        folder = out / "cells" / cell.name
        if not is_finished(folder):
            simulation = replace(comparison.base, study=cell.study, out=folder)
            with showing(cell.study) as watchers:
                run_simulation(simulation, (folder / "run.json").exists(), watchers)
        rows += [{**_flat(cell.settings), **row} for row in summary_table(folder)]
        write_text(out / "results.csv", write_csv(rows))
    write_text(out / "summary.csv", write_csv(summarise(rows)))
    return rows


def is_finished(folder: Path) -> bool:
    """Return whether a cell's run came to its end."""
    record = folder / "run.json"
    return record.exists() and json.loads(record.read_text(encoding="utf-8"))["state"] == "finished"


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Return one row per setting, stage, metric, arm and site: mean over seeds, least and greatest.

    A range over seeds says how far runs differ on the same patients; intervals over patients stand in results.csv.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    measured = ("value", "low", "high", "seed", "patients", "cases", "positives")
    for row in rows:
        if row["value"] is not None:
            named = {**row, "site": row["site"] if row["scope"] == "site" else ""}  # the worst is another in each seed
            key = tuple((name, value) for name, value in named.items() if name not in measured)
            groups.setdefault(key, []).append(row)
    return [
        {
            **dict(key),
            "seeds": len(members),
            "mean": statistics.fmean(row["value"] for row in members),
            "least": min(row["value"] for row in members),
            "greatest": max(row["value"] for row in members),
        }
        for key, members in groups.items()
    ]


def _claim(out: Path, asked: Mapping[str, Any]) -> None:
    record = out / "comparison.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8"))["study"] != asked["study"]:
        raise ConfigurationError(f"{out} holds a comparison of another study. Name another --out.")
    if not record.exists() and any(out.iterdir()):
        raise ConfigurationError(
            f"{out} holds files that are not a comparison's. Name an empty or new folder as --out."
        )
    write_json(record, asked)


def _flat(settings: Mapping[str, Any]) -> Row:
    """Return the settings as plain values; the arms are the same in every cell."""
    shown = {key: value for key, value in settings.items() if key != "arms.compare"}
    plain = (str, int, float)
    return {key: value if isinstance(value, plain) else json.dumps(value) for key, value in shown.items()}
