"""The folder of a run: what was asked for, what every round gave, where it stands. Every file is written whole or not
at all.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError, ConfigurationError, RoundError
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.files import holding, make_folder, write_json, write_text
from prostafed.common.shell.provenance import read_commit, read_versions
from prostafed.common.shell.tables import write_table
from prostafed.common.study import Study, rename_keys
from prostafed.server.records.lines import (
    AllPatientsLine,
    EvaluationLine,
    ExchangeLine,
    Line,
    MetricLine,
    RoundLine,
    RunRecord,
    StudyRecord,
    WaitingLine,
)
from prostafed.server.records.read import (
    ALL_PATIENTS,
    read_cohorts,
    read_evaluations,
    read_metrics,
    read_rounds,
    read_run_record,
    read_whole,
)

METRIC_COLUMNS = ("stage", "round", "site", "split", "metric", "value", "n")


def open_run(folder: Path, study: Study) -> None:
    """Make `folder` ready for `study`; raises CheckpointError as check_study, ConfigurationError if it cannot be
    written to.
    """
    make_folder(folder)
    check_study(folder, study)
    write_json(folder / "study.json", StudyRecord(study=study.model_dump(mode="json"), hash=study.hash()).written())


def check_study(folder: Path, study: Study) -> None:
    """Raise CheckpointError where `folder` holds a run of another study, or of this one as another release wrote it."""
    path = folder / "study.json"
    if not path.exists() or (found := read_whole(path, StudyRecord)).hash == study.hash():
        return
    try:
        same = parse(rename_keys(found.study), Study, str(path)) == study
    except ConfigurationError:
        same = False
    raise CheckpointError(
        f"{folder} holds a run of this study that another release started. Resume it with that release, or choose "
        "another folder."
        if same
        else f"{folder} holds a run of another study. Choose another folder, or go back to that study."
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder, which the system releases however this process ends; raises RoundError where another process
    runs in it.
    """
    with holding(make_folder(folder) / ".lock") as ours:
        if not ours:
            raise RoundError(f"Another process runs in {folder}. Wait for its end, or stop it, then resume.")
        yield


def read_records(
    folder: Path, stage: int, number: int
) -> tuple[list[RoundLine], list[MetricLine], list[EvaluationLine]]:
    """Return the rounds, the metrics of training and the exchanges of evaluations up to a round; those after it are of
    a round that did not complete, since records are written before the checkpoint.

    Metrics of evaluations follow from the evaluations' own lines.
    """
    done = (stage, number)
    return (
        [line for line in read_rounds(folder) if (line.stage, line.round) <= done],
        [line for line in read_metrics(folder) if (line.stage, line.round) <= done and line.split == "train"],
        [line for line in read_evaluations(folder) if (line.stage, line.round) <= done],
    )


def write_rounds(folder: Path, rounds: Sequence[RoundLine]) -> None:
    """Write rounds.jsonl."""
    _write_lines(folder / "rounds.jsonl", rounds)


def write_evaluations(folder: Path, lines: Sequence[EvaluationLine]) -> None:
    """Write evaluations.jsonl: one line per exchange."""
    _write_lines(folder / "evaluations.jsonl", lines)


def write_metrics(folder: Path, lines: Sequence[MetricLine], columns: tuple[str, ...] = METRIC_COLUMNS) -> None:
    """Write metrics.csv."""
    write_table(folder / "metrics.csv", columns, (line.written() for line in lines))


def write_cohorts(folder: Path, cohorts: Mapping[str, Mapping[str, float]]) -> None:
    """Add to cohorts.json what sites chose to tell of their patients; without any there is no such file."""
    before = read_cohorts(folder)
    if {**before, **cohorts} != before:
        write_json(folder / "cohorts.json", {**before, **cohorts})


def write_all_patients(folder: Path, stage: int, rows: Sequence[AllPatientsLine]) -> None:
    """Write all_patients.json: results over the patients of all sites, by stage; those of `stage` anew."""
    path = folder / ALL_PATIENTS[0]
    before = read_whole(path, tuple[AllPatientsLine, ...], ())
    write_json(path, [line.written() for line in [*(line for line in before if line.stage != stage), *rows]])


def write_waiting(folder: Path, waiting: Mapping[str, WaitingLine]) -> None:
    """Write waiting.json, who keeps the run from beginning, by site; without anybody there is no such file."""
    if waiting:
        write_json(folder / "waiting.json", {site: line.written() for site, line in waiting.items()})
    else:
        (folder / "waiting.json").unlink(missing_ok=True)


def write_run_record(folder: Path, state: str, ended: bool, **values: Any) -> RunRecord:
    """Write run.json and return it: `state`, whether the run has `ended`, this release, `values`, and of the record
    that is there what none of these says.
    """
    before, now = read_run_record(folder), datetime.now(UTC).isoformat(timespec="seconds")
    record = before.changed(
        versions=read_versions(),
        commit=read_commit(),
        started=before.started or now,
        finished=now if ended else None,
        state=state,
        **values,
    )
    write_json(folder / "run.json", record.written())
    return record


def measure_exchanges(folder: Path) -> dict[str, Any]:
    """Return what the exchanges of a run took, as write_run_record takes it: seconds, and bytes up and down."""
    exchanges = [*read_rounds(folder), *read_evaluations(folder)]
    return {"seconds": sum(line.seconds for line in exchanges), "sent": sum_bytes(exchanges)}


def sum_bytes(exchanges: Iterable[ExchangeLine]) -> dict[str, int]:
    """Return the bytes of tensors that went up and down in these rounds and evaluations."""
    kept = list(exchanges)
    return {"up": sum(line.bytes_up for line in kept), "down": sum(line.bytes_down for line in kept)}


def _write_lines(path: Path, lines: Sequence[Line]) -> None:
    write_text(path, "".join(json.dumps(line.written(), sort_keys=True) + "\n" for line in lines))
