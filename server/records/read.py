"""A run folder, read: frozen records of what is there; what is absent is empty."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from prostafed.common.errors import DataError
from prostafed.common.metrics.predictions import CasePrediction


class Line(BaseModel):
    """A record of a run folder. Unknown keys are let be: a report also reads what a later release wrote."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SiteLine(Line):
    """A site of federation.json."""

    name: str
    source: str
    cases: int | None = None
    center: str = ""
    scanner: dict[str, Any] = {}
    readers: dict[str, Any] = {}


class ExchangeLine(Line):
    """What rounds and evaluations have in common. A real federation has one arm and does not name it."""

    arm: str = "federated"
    stage: int
    round: int
    participants: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    rejections: tuple[dict[str, str], ...] = ()
    late: tuple[dict[str, str], ...] = ()
    attempt: int = 1
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0


class RoundLine(ExchangeLine):
    """A line of rounds.jsonl."""

    kind: str = ""
    method_or_task: str = ""
    reported: tuple[str, ...] = ()
    aggregated: bool = True
    aggregate: str = ""
    norms: dict[str, float] = {}
    cosines: dict[str, dict[str, float]] = {}
    influence: dict[str, float] = {}
    cases: dict[str, int] = {}
    metrics: dict[str, dict[str, float]] = {}
    diverged: tuple[str, ...] = ()  # sites whose training loss has


class EvaluationLine(ExchangeLine):
    """A line of evaluations.jsonl; its metrics stand in metrics.csv."""

    last: bool = False  # of its stage


class MetricLine(Line):
    """A row of metrics.csv."""

    arm: str = "federated"
    stage: int
    round: int
    site: str
    split: str
    metric: str
    value: float
    n: int


class PredictionLine(Line):
    """A line of predictions.jsonl."""

    arm: str
    stage: int
    site: str
    case_id: str
    patient_id: str
    label: bool | None
    score: float | None
    detections: tuple[tuple[float, bool], ...] = ()
    lesions: int = 0
    measures: dict[str, float] = {}


class PooledLine(Line):
    """A row of all_patients.json: over the patients of all sites, from their histograms."""

    stage: int
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    lowest: float
    highest: float
    sites: tuple[str, ...] = ()


class ArmLeftOut(Line):
    """An arm, or one of its runs, that the sites could not run."""

    arm: str
    run: str
    why: str


class RunRecord(Line):
    """run.json: where the run's numbers come from."""

    versions: dict[str, str] = {}
    commit: str | None = None
    data_fingerprint: str = ""
    seconds: float | None = None
    sent: dict[str, int] = Field(default={}, alias="bytes")
    engine: str = ""
    command: str = ""
    started: str = ""
    finished: str | None = None
    state: str = ""
    left_out: dict[str, tuple[str, ...]] = {}  # site -> a sentence per study that could not be used
    overlap: tuple[str, ...] = ()  # a sentence per two sites that share patients
    arms_left_out: tuple[ArmLeftOut, ...] = ()


class StudyRecord(Line):
    """study.json."""

    study: dict[str, Any]
    hash: str


class FederationRecord(Line):
    """federation.json, simulations only."""

    sites: tuple[SiteLine, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """Everything a report is made of."""

    path: Path
    study: dict[str, Any]
    study_hash: str
    sites: tuple[SiteLine, ...]  # empty in a real federation
    rounds: tuple[RoundLine, ...]
    metrics: tuple[MetricLine, ...]
    predictions: dict[tuple[int, str, str], tuple[CasePrediction, ...]]  # (stage, arm, site)
    examples: tuple[Path, ...]
    record: RunRecord
    evaluations: tuple[EvaluationLine, ...] = ()
    pooled: tuple[PooledLine, ...] = ()
    cohorts: dict[str, dict[str, float]] = field(default_factory=dict)  # site -> "attribute/value" -> cases

    @property
    def site_names(self) -> frozenset[str]:
        """Every site that took part."""
        return frozenset({site.name for site in self.sites} | {site for line in self.rounds for site in line.cases})

    @property
    def generated_sites(self) -> frozenset[str]:
        """Sites whose images are generated: the federation file says so, or they said so themselves with
        their updates.
        """
        named = {site.name for site in self.sites if site.source == "phantom"}
        return frozenset(
            named | {site for line in self.rounds for site, each in line.metrics.items() if each.get("generated")}
        )

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The study's stages, in order."""
        return list(self.study.get("stage", []))


def read_run(path: Path) -> RunFolder:
    """Read a run folder; raises DataError where `path` is none, or a file of it is damaged."""
    if not (path / "study.json").is_file():
        raise DataError(
            f"{path} is not a run folder: it holds no study.json. Give the folder that a run was told to write to."
        )
    study = _read_json(path / "study.json", StudyRecord)
    federation, record = path / "federation.json", path / "run.json"
    predictions: dict[tuple[int, str, str], list[CasePrediction]] = {}
    for line in _read_lines(path / "predictions.jsonl", PredictionLine):
        values = line.model_dump(exclude={"arm", "stage", "site"})
        predictions.setdefault((line.stage, line.arm, line.site), []).append(CasePrediction(**values))
    return RunFolder(
        path,
        study.study,
        study.hash,
        _read_json(federation, FederationRecord).sites if federation.is_file() else (),
        tuple(_read_lines(path / "rounds.jsonl", RoundLine)),
        tuple(_read_metrics(path / "metrics.csv")),
        {key: tuple(cases) for key, cases in predictions.items()},
        tuple(sorted((path / "examples").glob("*.npz"))),
        _read_json(record, RunRecord) if record.is_file() else RunRecord(),
        tuple(_read_lines(path / "evaluations.jsonl", EvaluationLine)),
        _read_whole(path / "all_patients.json", tuple[PooledLine, ...], ()),
        _read_whole(path / "cohorts.json", dict[str, dict[str, float]], {}),
    )


LineT = TypeVar("LineT", bound=Line)


def _read_json(path: Path, model: type[LineT]) -> LineT:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


WholeT = TypeVar("WholeT")


def _read_whole(path: Path, kind: type[WholeT], absent: WholeT) -> WholeT:
    if not path.is_file():
        return absent
    try:
        return TypeAdapter(kind).validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error


def _read_lines(path: Path, model: type[LineT]) -> list[LineT]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        return [model.model_validate_json(line) for line in lines if line.strip()]
    except ValidationError as error:
        raise _damaged(path, error) from error


def _read_metrics(path: Path) -> list[MetricLine]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [MetricLine.model_validate(row) for row in csv.DictReader(file)]
        except ValidationError as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg'].lower()}" if where else first["msg"].lower()
    else:
        reason = "not UTF-8 text"
    return DataError(f"{path} cannot be read ({reason}). Resume the run, or restore the file from a copy.")
