"""What a model says of a case, on its grid: scores, a heat map, segments, quantities. numpy only."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatVolume = npt.NDArray[np.float32]  # (z, y, x)
Labels = npt.NDArray[np.uint8]  # (z, y, x), 0 outside
# The kinds of answers: a score of csPCa, a heat map of csPCa with candidates, segments of structures, other numbers.
Kind = Literal["score", "heat map", "structures", "quantities"]
CANDIDATE = "candidate"


@dataclass(frozen=True)
class CandidateRule:
    """Which candidates of a heat map are shown; only answers of the kind "heat map" have any."""

    min_confidence: float
    most: int  # of a case, the most confident ones
    min_voxels: int  # a candidate has more


@dataclass(frozen=True)
class Segment:
    """What voxels of one label are: a lesion candidate with its confidence, or a structure."""

    kind: str  # CANDIDATE, or a structure's name
    label: str  # as a radiologist reads it
    confidence: float | None = None


@dataclass(frozen=True)
class Quantity:
    """A number that is no score of csPCa, under its own name."""

    name: str  # a code: at most 16 letters, digits, "-" and "_"
    label: str  # as a radiologist reads it, at most 64 characters
    value: float
    unit: str = ""  # in UCUM's spelling: "mL"; "" for none

    def __str__(self) -> str:
        """Return "Prostate volume 41.2 mL"."""
        return f"{self.label} {self.value:.1f} {self.unit}" if self.unit else f"{self.label} {self.value:.2f}"


@dataclass(frozen=True)
class Answer:
    """What the model says of a case; segment k has the voxels where `labels` is k + 1."""

    score: float | None = None  # of csPCa in the case, in [0, 1]
    quantities: tuple[Quantity, ...] = ()
    heat: FloatVolume | None = None  # of csPCa at the voxel, in [0, 1]
    labels: Labels | None = None
    segments: tuple[Segment, ...] = ()


def check_answer(answer: Answer, kind: Kind) -> Answer:
    """Return `answer` unchanged; raises ValueError where it says what answers of this `kind` do not say."""
    allowed = {
        "score": answer.score is not None and answer.heat is None and answer.labels is None,
        "heat map": answer.score is not None and answer.heat is not None and answer.labels is not None,
        "structures": answer.score is None and answer.heat is None and answer.labels is not None,
        "quantities": answer.score is None and answer.heat is None and answer.labels is None and answer.quantities,
    }
    if not allowed[kind]:
        named = {"score": answer.score, "heat": answer.heat, "labels": answer.labels}
        found = [name for name, value in named.items() if value is not None]
        found += [f"{len(answer.quantities)} quantities"] * bool(answer.quantities)
        raise ValueError(f"expected an answer of the kind '{kind}', found one of {', '.join(found) or 'nothing'}")
    for score in (answer.score, answer.heat):
        if score is not None and not ((np.min(score) >= 0) and (np.max(score) <= 1)):
            raise ValueError("expected scores of csPCa from 0 to 1, found others")
    if any((segment.kind == CANDIDATE) != (kind == "heat map") for segment in answer.segments):
        raise ValueError(f"expected candidates in heat maps and nowhere else, found {answer.segments[0]}")
    for quantity in answer.quantities:
        if not (np.isfinite(quantity.value) and 0 < len(quantity.name) <= 16 and 0 < len(quantity.label) <= 64):
            raise ValueError(f"expected a finite quantity with a name and a label, found {quantity}")
    return answer
