"""What a model said of one case, and what was true."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CasePrediction:
    """One case's prediction. Stays at the site; in a simulation the run folder keeps it as a line of
    predictions.jsonl.
    """

    case_id: str
    patient_id: str
    label: bool | None  # csPCa; None = unknown
    score: float | None  # for csPCa in [0, 1]: probability, or best candidate's confidence; None = the task has none
    detections: tuple[tuple[float, bool], ...] = ()  # (confidence, hits a lesion), detection tasks only
    lesions: int = 0  # lesions delineated in the case, detection tasks only
    measures: Mapping[str, float] = field(default_factory=dict)  # by name, among the task's; absent = undefined
