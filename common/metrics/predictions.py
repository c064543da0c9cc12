"""What a model said of one case, and what was true."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CasePrediction:
    """One case's prediction. Stays at the site; in a simulation the run folder keeps it as a line of
    predictions.jsonl.
    """

    case_id: str
    patient_id: str
    label: bool  # csPCa
    score: float  # probability of csPCa; for a detection task the best candidate's confidence, 0 without one
    detections: tuple[tuple[float, bool], ...] = ()  # (confidence, hits a lesion), detection tasks only
    lesions: int = 0  # lesions delineated in the case, detection tasks only
