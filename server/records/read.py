"""A run folder, read: frozen records of what is there; what is absent is empty."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from prostafed.common.errors import DataError
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.study import rename_keys
from prostafed.server.records.lines import (
    AllPatientsLine,
    Cohorts,
    EvaluationLine,
    FederationRecord,
    LedgerLine,
    Line,
    MetricLine,
    PredictionLine,
    RoundLine,
    RunRecord,
    SiteLine,
    StateRecord,
    StudyRecord,
    WaitingLine,
)

ALL_PATIENTS = ("all_patients.json", "pooled.json")  # as it is called, and as the last release called it
Kind = TypeVar("Kind")
LineT = TypeVar("LineT", bound=Line)


@dataclass(frozen=True)
class RunFolder:
    """Everything a report is made of."""

    path: Path
    study: dict[str, Any]  # its keys as they are called now
    study_hash: str
    sites: tuple[SiteLine, ...]  # empty in a real federation
    rounds: tuple[RoundLine, ...]
    metrics: tuple[MetricLine, ...]
    predictions: dict[tuple[int, str, str], tuple[CasePrediction, ...]]  # (stage, arm, site)
    examples: tuple[Path, ...]
    record: RunRecord
    evaluations: tuple[EvaluationLine, ...] = ()
    all_patients: tuple[AllPatientsLine, ...] = ()
    cohorts: Cohorts = field(default_factory=dict)
    ledger: tuple[LedgerLine, ...] = ()  # of a simulation, each arm has its own

    @property
    def site_names(self) -> frozenset[str]:
        """Every site that took part."""
        return frozenset({site.name for site in self.sites} | {site for line in self.rounds for site in line.cases})

    @property
    def generated_sites(self) -> frozenset[str]:
        """Sites whose images are generated: the federation file says so, or they said so themselves with
        their updates.
        """
        named = {site.name for site in self.sites if site.generated}
        return frozenset(
            named | {site for line in self.rounds for site, each in line.metrics.items() if each.get("generated")}
        )

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The study's stages, in order."""
        return list(self.study.get("stage", []))


def read_run(path: Path) -> RunFolder:
    """Read a run folder, of this release or the last; raises DataError where `path` is none, or a file is damaged."""
    if not (path / "study.json").is_file():
        raise DataError(
            f"{path} is not a run folder: it holds no study.json. Give the folder that a run was told to write to."
        )
    study = read_whole(path / "study.json", StudyRecord)
    predictions: dict[tuple[int, str, str], list[CasePrediction]] = {}
    for line in read_lines(path / "predictions.jsonl", PredictionLine):
        predictions.setdefault((line.stage, line.arm, line.site), []).append(line.case())
    pooled = next((path / name for name in ALL_PATIENTS if (path / name).is_file()), path / ALL_PATIENTS[0])
    return RunFolder(
        path,
        rename_keys(study.study),
        study.hash,
        read_whole(path / "federation.json", FederationRecord, FederationRecord()).sites,
        tuple(read_rounds(path)),
        tuple(read_metrics(path)),
        {key: tuple(cases) for key, cases in predictions.items()},
        tuple(sorted((path / "examples").glob("*.npz"))),
        read_run_record(path),
        tuple(read_evaluations(path)),
        read_whole(pooled, tuple[AllPatientsLine, ...], ()),
        read_cohorts(path),
        tuple(read_lines(path / "ledger.jsonl", LedgerLine)),
    )


def read_rounds(folder: Path) -> list[RoundLine]:
    """Read rounds.jsonl; an absent file has no line, here as below. Raises DataError where it is damaged."""
    return read_lines(folder / "rounds.jsonl", RoundLine)


def read_evaluations(folder: Path) -> list[EvaluationLine]:
    """Read evaluations.jsonl."""
    return read_lines(folder / "evaluations.jsonl", EvaluationLine)


def read_cohorts(folder: Path) -> Cohorts:
    """Read cohorts.json."""
    return read_whole(folder / "cohorts.json", Cohorts, {})


def read_run_record(folder: Path) -> RunRecord:
    """Read run.json."""
    return read_whole(folder / "run.json", RunRecord, RunRecord())


def read_state(folder: Path) -> StateRecord:
    """Read state.json; without one the run has not come to an end."""
    return read_whole(folder / "state.json", StateRecord, StateRecord(state=""))


def read_waiting(folder: Path) -> dict[str, WaitingLine]:
    """Read waiting.json: who keeps the run from beginning; it is there only as long as somebody does."""
    return read_whole(folder / "waiting.json", dict[str, WaitingLine], {})


def read_metrics(folder: Path) -> list[MetricLine]:
    """Read metrics.csv."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [MetricLine.model_validate(row, extra="ignore") for row in csv.DictReader(file)]
        except (ValidationError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error


def read_whole(path: Path, kind: type[Kind], absent: Kind | None = None) -> Kind:
    """Read a JSON file; an absent one is `absent`, where that is given."""
    if absent is not None and not path.is_file():
        return absent
    try:
        return TypeAdapter(kind).validate_json(path.read_text(encoding="utf-8"), extra="ignore")
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def read_lines(path: Path, model: type[LineT]) -> list[LineT]:
    """Read a file of JSON lines."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [model.model_validate_json(line, extra="ignore") for line in lines if line.strip()]
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def list_missing(evaluations: Iterable[EvaluationLine]) -> dict[tuple[str, int, str], dict[str, str]]:
    """Return who did not answer these exchanges in the end, and why: (arm, stage, site) -> the last rejection."""
    missing: dict[tuple[str, int, str], dict[str, str]] = {}
    for line in evaluations:
        missing |= {(line.arm, line.stage, entry["site"]): entry for entry in line.rejections}
        for site in line.replies:
            missing.pop((line.arm, line.stage, site), None)
    return missing


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg'].lower()}" if where else first["msg"].lower()
    else:
        reason = "not UTF-8 text"
    return DataError(f"{path} cannot be read ({reason}). Resume the run, or restore the file from a copy.")
