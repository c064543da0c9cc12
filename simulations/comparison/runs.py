"""Many runs side by side: cells run one after the other, their results in one table, the table in one page."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError, RoundError
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.study import Study
from prostafed.server.records.read import read_run, read_run_record
from prostafed.server.report import summary_table
from prostafed.server.report.shortcomings import list_shortcomings
from prostafed.server.report.tables import write_csv
from prostafed.simulations.comparison.cells import Cell
from prostafed.simulations.run.simulation import Simulation, Watchers, check_run, run_simulation

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
) -> tuple[list[Row], list[str]]:
    """Run every cell that is not finished and return the rows of all (settings, then stage, metric, arm, site, value)
    and a sentence per cell that failed: it costs only itself, and where only an arm of it failed, only that arm.

    Rows are written to results.csv, one line per cell, arm, site and metric, and summary.csv, over seeds. Raises
    ConfigurationError where `out` holds another comparison, CheckpointError where a finished run was of other cases.
    """
    out, rows, failed = make_folder(comparison.out), [], []
    federation = comparison.base.federation.model_dump(mode="json")
    asked = {"study": comparison.base.study.hash(), "federation": federation}
    _claim(out, asked, [cell.name for cell in comparison.cells])
    for number, cell in enumerate(comparison.cells, start=1):
        on_cell(cell.name, number, len(comparison.cells))
        folder = out / "cells" / cell.name
        simulation = replace(comparison.base, study=cell.study, out=folder)
        if is_finished(folder):
            check_run(simulation)
        else:
            try:
                with showing(cell.study) as watchers:
                    run_simulation(simulation, (folder / "run.json").exists(), watchers)
            except (RoundError, ConfigurationError) as error:
                failed.append(f"{cell.name}: {error}")
                if not _has_results(folder):
                    continue
        rows += [{**_flat(cell.settings), **row} for row in summary_table(folder)]
        write_csv(out / "results.csv", rows)
    write_csv(out / "summary.csv", summarise(rows))
    return rows, failed


def list_arms_left_out(comparison: Comparison) -> list[str]:
    """Return a sentence per run of an arm that its sites could not run, each once."""
    records = [read_run_record(comparison.out / "cells" / cell.name) for cell in comparison.cells]
    return list(dict.fromkeys(f"{line.run}: {line.why}" for record in records for line in record.arms_left_out))


def list_wanting(comparison: Comparison) -> list[str]:
    """Return a sentence per shortcoming of a cell's run: a loss that diverged, a site that is missing."""
    folders = {cell.name: comparison.out / "cells" / cell.name for cell in comparison.cells}
    return [
        f"{name}: {each.title}. {each.text}"
        for name, folder in folders.items()
        if is_finished(folder) or _has_results(folder)
        for each in list_shortcomings(read_run(folder))
    ]


def _has_results(folder: Path) -> bool:
    """Return whether a cell that did not come to its end lacks but some arms."""
    return bool(read_run_record(folder).arms_failed)


def is_finished(folder: Path) -> bool:
    """Return whether a cell's run came to its end."""
    return read_run_record(folder).state == "finished"


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


def _claim(out: Path, asked: Mapping[str, Any], cells: Sequence[str]) -> None:
    """Enter what is compared; raises ConfigurationError where `out` compares something else, or is in other use."""
    record = out / "comparison.json"
    if record.exists():
        found = json.loads(record.read_text(encoding="utf-8"))
        if {key: found.get(key) for key in asked} != asked:
            raise ConfigurationError(f"{out} holds a comparison of another study or federation. Name another --out.")
    if not record.exists() and any(out.iterdir()):
        raise ConfigurationError(
            f"{out} holds files that are not a comparison's. Name an empty or new folder as --out."
        )
    write_json(record, {**asked, "cells": list(cells)})


def _flat(settings: Mapping[str, Any]) -> Row:
    """Return the settings as plain values; the arms are the same in every cell."""
    shown = {key: value for key, value in settings.items() if key != "arms.compare"}
    plain = (str, int, float)
    return {key: value if isinstance(value, plain) else json.dumps(value) for key, value in shown.items()}
