"""Histograms as named floats, the form in which a reply carries metrics, and back.

score_histogram/positive/017 counts the positives of the cell that starts at bin 17 and ends where the next cell of the
same site starts; detection_histogram/hit/017 and /miss/017 do so for candidates, beside detection_histogram/lesions
and /cases.
"""

from collections.abc import Mapping

from prostafed.common.errors import DataError
from prostafed.common.metrics.histograms import BINS, DetectionHistogram, ScoreHistogram

SCORES = "score_histogram"
DETECTIONS = "detection_histogram"
LABELS = ("positive", "negative")
OUTCOMES = ("hit", "miss")
MOST = 10**9  # of anything counted
TOTALS = (f"{DETECTIONS}/lesions", f"{DETECTIONS}/cases")


def _key(prefix: str, kind: str, start: int) -> str:
    return f"{prefix}/{kind}/{start:03d}"


SCORE_KEYS = tuple(_key(SCORES, label, start) for label in LABELS for start in range(BINS))
DETECTION_KEYS = (*(_key(DETECTIONS, outcome, start) for outcome in OUTCOMES for start in range(BINS)), *TOTALS)
HISTOGRAM_KEYS = (*SCORE_KEYS, *DETECTION_KEYS)


def scores_to_floats(histogram: ScoreHistogram) -> dict[str, float]:
    """Return one site's histogram as {name among SCORE_KEYS: count}."""
    return _to_floats(histogram, SCORES, LABELS)


def detections_to_floats(histogram: DetectionHistogram) -> dict[str, float]:
    """Return one site's histogram as {name among DETECTION_KEYS: count}."""
    cells = _to_floats(histogram.candidates, DETECTIONS, OUTCOMES)
    return cells | dict(zip(TOTALS, (float(histogram.lesions), float(histogram.cases)), strict=True))


def scores_from_floats(metrics: Mapping[str, float]) -> ScoreHistogram | None:
    """Return the histogram among a site's `metrics`, None where there is none; other metrics are passed over.

    Raises DataError where it is not one a site can have made: a count that is not a whole number of 0 or more, a cell
    with one label only, no cell that starts at bin 0.
    """
    return _from_floats(metrics, SCORES, LABELS)


def detections_from_floats(metrics: Mapping[str, float]) -> DetectionHistogram | None:
    """Return the histogram of candidates among a site's `metrics`, None where there is none; raises as
    `scores_from_floats` does, and where lesions or cases are missing or fewer lesions than hits are counted.
    """
    candidates = _from_floats(metrics, DETECTIONS, OUTCOMES)
    if candidates is None:
        return None
    lesions, cases = (_count(metrics, name) for name in TOTALS)
    if lesions < sum(candidates.positives):
        raise DataError(f"Expected at least as many lesions as hits, found {lesions} of {sum(candidates.positives)}.")
    return DetectionHistogram(candidates, lesions, cases)


def _to_floats(histogram: ScoreHistogram, prefix: str, kinds: tuple[str, str]) -> dict[str, float]:
    if histogram.starts[:1] != (0,) or (*histogram.starts[1:], BINS) != histogram.stops:
        raise ValueError(
            "Expected the histogram of one site, found cells of several: name them before they are merged."
        )
    return {
        _key(prefix, kind, start): float(count)
        for kind, counts in zip(kinds, (histogram.positives, histogram.negatives), strict=True)
        for start, count in zip(histogram.starts, counts, strict=True)
    }


def _from_floats(metrics: Mapping[str, float], prefix: str, kinds: tuple[str, str]) -> ScoreHistogram | None:
    sides = [[start for start in range(BINS) if _key(prefix, kind, start) in metrics] for kind in kinds]
    starts = sides[0]
    if not any(sides):
        return None
    if starts != sides[1] or starts[0] != 0:
        raise DataError(
            f"Expected a {prefix} with both counts of every cell, the first at bin 0, found cells that start at "
            f"{sides[0]} and {sides[1]}. Ask the site for its version."
        )
    positives, negatives = (tuple(_count(metrics, _key(prefix, kind, start)) for start in starts) for kind in kinds)
    return ScoreHistogram(tuple(starts), (*starts[1:], BINS), positives, negatives)


def _count(metrics: Mapping[str, float], name: str) -> int:
    value = metrics.get(name, -1.0)
    if not (0 <= value <= MOST and float(value).is_integer()):
        raise DataError(f"Expected {name} to be a whole number of 0 or more, found {metrics.get(name)}.")
    return int(value)
