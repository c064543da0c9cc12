"""The folder of a run: what was asked for, what every round gave, where it stands. Every file is written whole or not
at all.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError, RoundError
from prostafed.common.shell.files import holding, make_folder, write_json, write_text
from prostafed.common.shell.provenance import read_commit, read_versions
from prostafed.common.study import Study

METRIC_COLUMNS = ("stage", "round", "site", "split", "metric", "value", "n")
Row = dict[str, Any]


def open_run(folder: Path, study: Study) -> None:
    """Make `folder` ready for `study`.

    Raises CheckpointError if it holds a run of another study, ConfigurationError if it cannot be written to.
    """
    make_folder(folder)
    study_file = folder / "study.json"
    if study_file.exists() and json.loads(study_file.read_text())["hash"] != study.hash():
        raise CheckpointError(
            f"{folder} holds a run of another study. Choose another folder, or go back to that study."
        )
    write_json(study_file, {"study": study.model_dump(mode="json"), "hash": study.hash()})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, which the system releases however this process ends; raises RoundError where another process
    runs in it.
    """
    with holding(make_folder(folder) / ".lock") as ours:
        if not ours:
            raise RoundError(f"Another process runs in {folder}. Wait for its end, or stop it, then resume.")
        yield


def read_records(folder: Path, stage: int, number: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Return the round records, the metric rows of training and the lines of evaluations up to a round; those after it
    are of a round that did not complete, since records are written before the checkpoint.

    Metric rows of evaluations follow from the evaluations' own lines.
    """
    rounds, metrics, evaluations = read_rounds(folder), read_metrics(folder / "metrics.csv"), read_evaluations(folder)
    rounds, metrics, evaluations = (
        [row for row in rows if (row["stage"], row["round"]) <= (stage, number)]
        for rows in (rounds, metrics, evaluations)
    )
    return rounds, [row for row in metrics if row["split"] == "train"], evaluations


def write_rounds(folder: Path, rounds: Sequence[Row]) -> None:
    """Write rounds.jsonl."""
    _write_lines(folder / "rounds.jsonl", rounds)


def write_evaluations(folder: Path, lines: Sequence[Row]) -> None:
    """Write evaluations.jsonl: one line per exchange."""
    _write_lines(folder / "evaluations.jsonl", lines)


def write_metric_rows(folder: Path, rows: Sequence[Row]) -> None:
    """Write metrics.csv, by stage and round, training before what was evaluated after it."""
    ordered = sorted(rows, key=lambda row: (row["stage"], row["round"], row["split"] != "train"))
    write_metrics(folder / "metrics.csv", ordered, METRIC_COLUMNS)


def write_cohorts(folder: Path, cohorts: Mapping[str, Mapping[str, float]]) -> None:
    """Add to cohorts.json what sites chose to tell of their patients; without any there is no such file."""
    path = folder / "cohorts.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if {**before, **cohorts} != before:
        write_json(path, {**before, **cohorts})


def write_pooled(folder: Path, stage: int, rows: list[Row]) -> None:
    """Write all_patients.json: results over the patients of all sites, by stage; those of `stage` anew."""
    path = folder / "all_patients.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write_json(path, [row for row in before if row["stage"] != stage] + rows)


def write_run_record(folder: Path, state: str) -> None:
    """Write run.json: where the run's numbers come from and how far it is; `state` is running, failed or finished."""
    path, now = folder / "run.json", datetime.now(UTC).isoformat(timespec="seconds")
    exchanges = [*read_rounds(folder), *read_evaluations(folder)]
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record = {
        "versions": read_versions(),
        "commit": read_commit(),
        "seconds": sum(row["seconds"] for row in exchanges),
        "bytes": sum_bytes(exchanges),
        "started": before.get("started", now),
        "finished": None if state == "running" else now,
        "state": state,
    }
    write_json(path, record)


def write_metrics(path: Path, rows: Sequence[Row], columns: tuple[str, ...]) -> None:
    """Write metric rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> list[Row]:
    """Read metric rows, numbers as numbers; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                **row,
                "stage": int(row["stage"]),
                "round": int(row["round"]),
                "value": float(row["value"]),
                "n": int(row["n"]),
            }
            for row in csv.DictReader(file)
        ]


def read_rounds(folder: Path) -> list[Row]:
    """Read the round records of a run folder; an absent file has none."""
    return _read_lines(folder / "rounds.jsonl")


def read_evaluations(folder: Path) -> list[Row]:
    """Read the exchanges of evaluations of a run folder; an absent file has none."""
    return _read_lines(folder / "evaluations.jsonl")


def sum_bytes(exchanges: Iterable[Row]) -> dict[str, int]:
    """Return the bytes of tensors that went up and down in these records of rounds and evaluations."""
    kept = list(exchanges)
    return {way: sum(row[f"bytes_{way}"] for row in kept) for way in ("up", "down")}


def list_missing(evaluations: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, str], dict[str, str]]:
    """Return who did not answer these exchanges in the end, and why: (arm, stage, site) -> the last rejection."""
    missing: dict[tuple[str, int, str], dict[str, str]] = {}
    for line in evaluations:
        arm, stage = line.get("arm", "federated"), line["stage"]
        missing |= {(arm, stage, entry["site"]): entry for entry in line["rejections"]}
        for site in line["replies"]:
            missing.pop((arm, stage, site), None)
    return missing


def _read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
