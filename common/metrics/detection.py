"""Lesion detection: candidates matched to lesions, average precision over lesions, FROC, PI-CAI score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.metrics.candidates import Candidates, Map, extract_candidates
from prostafed.common.metrics.components import LabelVolume, label_components
from prostafed.common.metrics.diagnosis import AUROC
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.ranking import average_precision_rows, ratio, retrieved
from prostafed.common.metrics.statistic import BoolArray, FloatArray, Statistic, require_finite

MIN_IOU = 0.10  # of PI-CAI: small, since radiologists outline lesions differently


@dataclass(frozen=True)
class Detection:
    """What was found in one case; the fields of CasePrediction with the same names."""

    score: float  # confidence of the best candidate, 0 without one
    detections: tuple[tuple[float, bool], ...]  # (confidence, hits a lesion)
    lesions: int


@dataclass(frozen=True)
class FrocCurve:
    """Free-response ROC (Bunch et al. 1977), arrays (threshold,), from the highest threshold down."""

    thresholds: FloatArray  # each confidence that a candidate has
    false_positives_per_case: FloatArray
    sensitivity: FloatArray  # share of all lesions, found or not


def detect(detection_map: Map, lesion_mask: npt.NDArray[np.uint8], min_voxels: int = 10) -> Detection:
    """Return the candidates of `detection_map` (z, y, x) matched to the lesions of `lesion_mask` (z, y, x), 0/1."""
    candidates = extract_candidates(detection_map, min_voxels)
    detections, lesions = match_lesions(candidates, lesion_mask)
    return Detection(max(candidates.confidences, default=0.0), detections, lesions)


def match_lesions(
    candidates: Candidates, lesion_mask: npt.NDArray[np.uint8], min_iou: float = MIN_IOU
) -> tuple[tuple[tuple[float, bool], ...], int]:
    """Return ((confidence, hits a lesion), ...) and the number of lesions, 26-connected components of `lesion_mask`.

    As `picai_eval` does: as many matches with IoU >= `min_iou` as possible, then the largest total IoU; a candidate
    that overlaps a lesion enough but is not its match is left out, neither hit nor false positive.
    """
    truth, lesions = label_components(lesion_mask > 0)
    iou = _intersection_over_union(truth, lesions, candidates.labels, len(candidates.confidences))
    enough = iou >= min_iou
    matched = _assign(np.where(enough, 1 + iou, 0.0))
    detections = tuple(
        (confidence, index in matched)
        for index, confidence in enumerate(candidates.confidences)
        if index in matched or not enough[:, index].any()
    )
    return detections, lesions


def froc_curve(predictions: Sequence[CasePrediction]) -> FrocCurve | None:
    """Return lesion sensitivity against false positives per case, all cases counted; None without a lesion.

    The points of `picai_eval`, except that it leaves out the lowest threshold where no lesion is missed.
    """
    hits, confidences, of_candidates, lesions = _flatten(predictions, np.ones((1, len(predictions))))
    if not lesions[0]:
        return None
    true, false = retrieved(hits, confidences, of_candidates)
    return FrocCurve(np.unique(confidences)[::-1], false[0] / len(predictions), true[0] / lesions[0])


def lesion_sensitivity(false_positives_per_case: float) -> Statistic:
    """Return the fraction of lesions found at the lowest threshold with at most so many false positives per case.

    0 where already the most confident candidates are false and too many.
    """

    def rows(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
        hits, confidences, of_candidates, lesions = _flatten(predictions, weights)
        true, false = retrieved(hits, confidences, of_candidates)
        allowed = false <= false_positives_per_case * weights.sum(axis=1, keepdims=True)
        return ratio(np.max(np.where(allowed, true, 0.0), axis=1, initial=0.0), lesions)

    return Statistic(rows)


def _lesion_ap(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    """Average precision over the candidates of all cases; lesions without a candidate lower the recall."""
    hits, confidences, of_candidates, lesions = _flatten(predictions, weights)
    return average_precision_rows(hits, confidences, of_candidates, lesions)


def _picai_score(predictions: Sequence[CasePrediction], weights: FloatArray) -> FloatArray:
    """(AUROC + AP) / 2, the ranking score of the PI-CAI challenge (Saha et al. 2024)."""
    return (AUROC.rows(predictions, weights) + _lesion_ap(predictions, weights)) / 2


LESION_AP = Statistic(_lesion_ap)
LESION_SENSITIVITY = lesion_sensitivity(1.0)
PICAI_SCORE = Statistic(_picai_score)


def _flatten(
    predictions: Sequence[CasePrediction], weights: FloatArray
) -> tuple[BoolArray, FloatArray, FloatArray, FloatArray]:
    """Return hits (candidate,), confidences (candidate,), weights (resample, candidate) and lesions (resample,)."""
    found = [(index, *pair) for index, prediction in enumerate(predictions) for pair in prediction.detections]
    cases = np.array([index for index, _, _ in found], dtype=np.intp)
    confidences = np.array([confidence for _, confidence, _ in found], dtype=np.float64)
    require_finite(confidences)
    hits = np.array([hit for _, _, hit in found], dtype=bool)
    lesions = weights @ np.array([prediction.lesions for prediction in predictions], dtype=np.float64)
    return hits, confidences, weights[:, cases], lesions


def _intersection_over_union(truth: LabelVolume, lesions: int, found: LabelVolume, candidates: int) -> FloatArray:
    """Return IoU (lesion, candidate)."""
    size = (lesions + 1) * (candidates + 1)
    together = np.bincount((truth * (candidates + 1) + found).ravel(), minlength=size).reshape(lesions + 1, -1)
    both = together[1:, 1:]
    either = together[1:].sum(axis=1, keepdims=True) + together[:, 1:].sum(axis=0, keepdims=True) - both
    return np.asarray(both / either, dtype=np.float64)


def _assign(gain: FloatArray) -> frozenset[int]:
    """Return the candidates (columns) of the one-to-one assignment with the largest total gain; exact.

    Best total per set of candidates in use, lesion after lesion: at most 2^5 sets for 5 candidates.
    """
    best: dict[frozenset[int], float] = {frozenset(): 0.0}
    for row in gain:
        following = dict(best)
        for used, total in best.items():
            for column in np.flatnonzero(row > 0):
                extended = used | {int(column)}
                if column not in used and total + row[column] > following.get(extended, -1.0):
                    following[extended] = total + float(row[column])
        best = following
    return max(best, key=lambda used: best[used])
