"""What a site may tell of its scores so that others can rank them with theirs: counts per bin, nothing per case.

The scale is fixed and the same everywhere: BINS bins of equal width in the logit, since a trained network's scores
crowd near 0 and 1. Neighbouring bins join until each holds cases of `minimum` patients (`small_cells.join_bins`), so a
site of 40 cases tells about three bins, one of 800 about fifty. The rule is on patients per bin: of them, the number
with csPCa is told, and may be small. A rule on the count of each label was tried and leaves nothing to rank: with 10
per count, simulated pooled AUROCs are off by 0.04 on average and by up to 0.4.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DataError
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.small_cells import MINIMUM, join_bins
from prostafed.common.metrics.statistic import FloatArray, require_finite

BINS = 256
LOGIT_RANGE = 8.0  # the first and last bin reach on to 0 and 1
EDGES: FloatArray = 1 / (1 + np.exp(-np.linspace(-LOGIT_RANGE, LOGIT_RANGE, BINS + 1)[1:-1]))  # (BINS - 1,), inner


@dataclass(frozen=True)
class ScoreHistogram:
    """Cells of bins with how many positives and negatives score there: bins starts[k] to stops[k] - 1 for cell k.

    The cells of one site lie side by side and cover all bins; those of several sites, merged, overlap.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass(frozen=True)
class DetectionHistogram:
    """Lesion candidates by confidence: the positives of `candidates` are hits, its negatives false positives."""

    candidates: ScoreHistogram
    lesions: int  # all delineated ones, found or not
    cases: int


def bin_scores(
    labels: npt.ArrayLike, scores: npt.ArrayLike, patients: Sequence[Hashable] | None = None, minimum: int = MINIMUM
) -> ScoreHistogram | None:
    """Return the histogram of `scores` (case,) in [0, 1] by `labels` (case,) bool; None with too few patients.

    `patients` (case,) says whose case each is; without it, every case is another patient's. Raises DataError for a
    score outside [0, 1].
    """
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    whose = range(truth.size) if patients is None else patients
    if not (truth.ndim == 1 and truth.shape == values.shape and len(whose) == truth.size):
        raise ValueError(f"Expected a label, a score and a patient per case, found {truth.shape} and {values.shape}.")
    require_finite(values)
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise DataError(
            f"Expected scores in [0, 1], found {values.min():.3g} to {values.max():.3g}. Apply the sigmoid first."
        )
    bins = np.searchsorted(EDGES, values, side="right")
    starts = join_bins(bins, whose, BINS, minimum)
    if starts is None:
        return None
    positives, negatives = (
        np.add.reduceat(np.bincount(bins[chosen], minlength=BINS), starts) for chosen in (truth, ~truth)
    )
    return ScoreHistogram(starts, (*starts[1:], BINS), tuple(positives.tolist()), tuple(negatives.tolist()))


def bin_predictions(predictions: Sequence[CasePrediction], minimum: int = MINIMUM) -> ScoreHistogram | None:
    """Return the histogram of the cases that have both a label and a score; None with too few patients."""
    judged = [(each.label, each.score, each.patient_id) for each in predictions if None not in (each.label, each.score)]
    labels, scores, patients = zip(*judged, strict=True) if judged else ((), (), ())
    return bin_scores(labels, scores, patients, minimum)


def bin_detections(predictions: Sequence[CasePrediction], minimum: int = MINIMUM) -> DetectionHistogram | None:
    """Return the histogram of all candidates' confidences; None where they are of too few patients."""
    found = [(hit, confidence, each.patient_id) for each in predictions for confidence, hit in each.detections]
    hits, confidences, patients = zip(*found, strict=True) if found else ((), (), ())
    candidates = bin_scores(hits, confidences, patients, minimum)
    if candidates is None:
        return None
    return DetectionHistogram(candidates, sum(each.lesions for each in predictions), len(predictions))


def merge_scores(histograms: Sequence[ScoreHistogram]) -> ScoreHistogram:
    """Return the cells of all `histograms`, in an order that does not depend on theirs."""
    sites = sorted((each.starts, each.stops, each.positives, each.negatives) for each in histograms)
    cells = [cell for site in sites for cell in zip(*site, strict=True)]
    starts, stops, positives, negatives = zip(*cells, strict=True) if cells else ((), (), (), ())
    return ScoreHistogram(starts, stops, positives, negatives)


def merge_detections(histograms: Sequence[DetectionHistogram]) -> DetectionHistogram:
    """Return the candidates, lesions and cases of all `histograms`."""
    return DetectionHistogram(
        merge_scores([each.candidates for each in histograms]),
        sum(each.lesions for each in histograms),
        sum(each.cases for each in histograms),
    )
