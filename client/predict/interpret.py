"""What a prediction says of a case, on the grid of the model: scores, a heat map, segments. numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prostafed.common.bundle.record import Thresholds
from prostafed.common.metrics.candidates import extract_candidates
from prostafed.common.tasks.anatomy import PZ, TZ, segment
from prostafed.common.tasks.pirads import SUSPICIOUS, THRESHOLDS

FloatVolume = npt.NDArray[np.float32]  # (z, y, x)
Labels = npt.NDArray[np.uint8]  # (z, y, x), 0 outside


@dataclass(frozen=True)
class Segment:
    """What voxels of one label are: a lesion candidate with its confidence, or a zone."""

    kind: str  # "candidate", "pz" or "tz"
    confidence: float | None = None


@dataclass(frozen=True)
class Answer:
    """What the model says of a case; segment k has the voxels where `labels` is k + 1."""

    score: float | None = None  # of csPCa in the case, in [0, 1]
    scores: Mapping[str, float] = field(default_factory=dict)  # further ones, by name
    heat: FloatVolume | None = None  # in [0, 1]
    labels: Labels | None = None
    segments: tuple[Segment, ...] = ()


def interpret(task: str, prediction: npt.NDArray[np.float32], thresholds: Thresholds, min_voxels: int) -> Answer:
    """Return what `prediction`, that of `Task.predict` for `task`, says; candidates have more than `min_voxels`."""
    match task:
        case "lesion":
            return _find_lesions(prediction, thresholds, min_voxels)
        case "anatomy":
            return Answer(labels=segment(prediction), segments=(Segment("pz"), Segment("tz")))
        case "pirads":
            named = {f"pirads_{grade}": float(each) for grade, each in zip(THRESHOLDS, prediction, strict=True)}
            return Answer(float(prediction[SUSPICIOUS]), named)
    return Answer(float(prediction))


def _find_lesions(heat: FloatVolume, thresholds: Thresholds, min_voxels: int) -> Answer:
    """The score is that of the metrics, over candidates of any confidence; those below the threshold are not shown."""
    found = extract_candidates(heat, min_voxels, thresholds.max_candidates)
    shown = tuple(each for each in found.confidences if each >= thresholds.min_confidence)
    labels = np.where(found.labels <= len(shown), found.labels, 0).astype(np.uint8)
    segments = tuple(Segment("candidate", confidence) for confidence in shown)
    return Answer(max(found.confidences, default=0.0), heat=heat, labels=labels, segments=segments)


assert (PZ, TZ) == (1, 2)  # the labels of `segment` are those of the segments above
