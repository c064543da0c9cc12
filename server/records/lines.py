"""The files of a run folder, a model per kind of file or line: a run writes it, simulations merge it, reports read it.

Strict where it is written: a key that is not here is a mistake. Whoever reads lets be what a later release added, and a
key that is absent has its default; what is written holds the keys that were set, no others.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from prostafed.common.imaging.cases import GENERATED
from prostafed.common.metrics.predictions import CasePrediction

Entries = tuple[dict[str, str], ...]  # rejections: site, code, text; late answers: site, stage, round, action
Cohorts = dict[str, dict[str, float]]  # cohorts.json: site -> "attribute/value" -> cases


class Line(BaseModel):
    """A record of a run folder."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def changed(self, **values: Any) -> Self:
        """Return the record with these values."""
        return type(self)(**{name: getattr(self, name) for name in self.model_fields_set} | values)

    def written(self) -> dict[str, Any]:
        """Return what is written of it, ready for JSON."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class SiteLine(Line):
    """A site of federation.json: whatever the federation file says of it, and what came of that."""

    model_config = ConfigDict(extra="allow")
    name: str
    source: str
    cases: int | None = None
    center: str = ""
    scanner: dict[str, Any] = {}
    readers: dict[str, Any] = {}
    title: str = ""  # of the public set, or what else its cases are; a run of an earlier release does not tell it

    @property
    def generated(self) -> bool:
        """Whether no patient was imaged for its cases."""
        return self.source == GENERATED

    @property
    def images(self) -> str:
        """Return what its images are, for a reader."""
        if self.generated:
            return "generated images"
        return f"real images, {self.title}" if self.title else self.source


class FederationRecord(Line):
    """federation.json, simulations only."""

    sites: tuple[SiteLine, ...] = ()


class ExchangeLine(Line):
    """What rounds and evaluations have in common."""

    arm: str = "federated"  # a real federation has no other and does not name it
    stage: int
    round: int
    participants: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    rejections: Entries = ()
    late: Entries = ()
    attempt: int = 1
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    metrics: dict[str, dict[str, float]] = {}  # by site; of an evaluation, named "split/metric"
    study_hash: str = ""


class RoundLine(ExchangeLine):
    """A line of rounds.jsonl."""

    kind: str = ""
    method_or_task: str = ""
    reported: tuple[str, ...] = ()
    aggregated: bool = True
    problem: str = ""  # why it was not
    aggregate: str = ""
    diagnostics: dict[str, float] = {}  # the aggregator's
    norms: dict[str, float] = {}  # of the updates, by site, as the next three
    cosines: dict[str, dict[str, float]] = {}
    influence: dict[str, float] = {}
    cases: dict[str, int] = {}
    diverged: tuple[str, ...] = ()  # sites whose training loss has
    dropped: Entries = ()  # of a round that is summed: who gave no answer at which exchange; site, exchange, code, text


class EvaluationLine(ExchangeLine):
    """A line of evaluations.jsonl: one exchange, of which an evaluation may take several."""

    splits: tuple[str, ...] = ()
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
    """A line of predictions.jsonl, simulations only: see CasePrediction."""

    arm: str
    stage: int
    site: str
    split: str = "test"
    task: str = ""
    case_id: str
    patient_id: str
    label: bool | None
    score: float | None
    detections: tuple[tuple[float, bool], ...] = ()
    lesions: int = 0
    measures: dict[str, float] = {}

    def case(self) -> CasePrediction:
        """Return what was said of the case, without where."""
        return CasePrediction(**{name: getattr(self, name) for name in CasePrediction.__dataclass_fields__})


class AllPatientsLine(Line):
    """A row of all_patients.json: over the patients of all sites, from their histograms."""

    stage: int
    split: str = "test"
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    lowest: float
    highest: float
    sites: tuple[str, ...] = ()


class LedgerLine(Line):
    """A line of ledger.jsonl: an Entry of the ledger, when, and where it stands in the chain."""

    event: str
    stage: int = 0
    round: int = 0
    site: str = ""
    text: str = ""
    model: str = ""
    time: str
    study_hash: str
    number: int = 0  # this and the next, where it stands in the chain, are the chained file's to say
    previous: str = ""


class StateRecord(Line):
    """state.json: how a run ended."""

    state: str  # finished or failed
    error: str = ""


class ArmLeftOut(Line):
    """An arm, or one of its runs, that the sites could not run."""

    arm: str
    run: str
    why: str


class WaitingLine(Line):
    """What waiting.json says of a site: why the run cannot begin with it yet, and since when."""

    code: str
    since: str


class RunRecord(Line):
    """run.json: where the run's numbers come from and how far it is."""

    versions: dict[str, str] = {}
    commit: str | None = None
    seconds: float | None = None
    sent: dict[str, int] = Field(default={}, alias="bytes")
    started: str = ""
    finished: str | None = None
    sites_expected: int = 0  # how many the run waited for before it began
    state: str = ""  # running, finished, failed; of a simulation, interrupted or finished
    # Simulations only, from here on.
    data_fingerprint: str = ""
    engine: str = ""
    command: str = ""
    federation: dict[str, Any] = {}  # as it was asked for
    left_out: dict[str, tuple[str, ...]] = {}  # site -> a sentence per study that could not be used
    overlap: tuple[str, ...] = ()  # a sentence per two sites that share patients
    arms_left_out: tuple[ArmLeftOut, ...] = ()
    arms_failed: dict[str, str] = {}  # run of an arm -> why


class StudyRecord(Line):
    """study.json."""

    study: dict[str, Any]
    hash: str
