"""Paired permutation test: could the difference of two arms on the same patients be chance?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import BoolArray, FloatArray, Statistic

PERMUTATIONS = 10_000
ROWS_AT_ONCE = 500  # bounds memory
ROUNDING = 1e-12  # differences this close are equal


@dataclass(frozen=True)
class PermutationTest:
    """What a test found; `p_value` is two-sided."""

    difference: float  # the first arm's statistic minus the second's
    p_value: float
    permutations: int
    exact: bool  # every swap was tried


def paired_permutation_test(
    first: Sequence[CasePrediction],
    second: Sequence[CasePrediction],
    statistic: Statistic,
    seed: int,
    permutations: int = PERMUTATIONS,
    *,
    groups: Sequence[str] | None = None,
) -> PermutationTest | None:
    """Return the test of no difference between two arms' predictions; None where either statistic is undefined.

    Under it either prediction of a patient could be either arm's: the arms are swapped patient by patient, with all
    cases of the patient, and p is the share of swaps with a difference as large or larger. All 2^patients swaps are
    tried if they are no more than `permutations`; else as many are drawn, and p = (1 + larger) / (1 + permutations),
    which is never 0 (Phipson & Smyth 2010). A swap that leaves the statistic undefined counts as larger.

    Swapping mixes the arms' scales. For a statistic that only ranks (AUROC, average precision, the PI-CAI score), pass
    predictions through `rank_within` first, so that a difference in calibration is not taken for one in ranking
    (Bandos, Rockette & Gur 2005). `groups` says the site of each of `first`; patients of two sites are two. Raises
    ValueError where the arms do not hold the same cases.
    """
    sites = ("",) * len(first) if groups is None else groups
    both = [*first, *_align(first, second)]
    patients = {key: place for place, key in enumerate(dict.fromkeys(_patients(first, sites)))}
    column = np.array([patients[key] for key in _patients(first, sites)], dtype=np.intp)
    observed = _differences(both, statistic, np.zeros((1, len(first)), dtype=bool))[0]
    if np.isnan(observed):
        return None
    exact = 2 ** len(patients) <= permutations
    count = 2 ** len(patients) if exact else permutations
    larger = 0
    for swapped in _swaps(len(patients), count, exact, seed):
        differences = _differences(both, statistic, swapped[:, column])
        larger += int(np.count_nonzero(~(np.abs(differences) < abs(observed) - ROUNDING)))
    p_value = larger / count if exact else (1 + larger) / (1 + count)
    return PermutationTest(float(observed), p_value, count, exact)


def rank_within(predictions: Sequence[CasePrediction]) -> list[CasePrediction]:
    """Return the predictions with mid-ranks, in (0, 1], for scores and, among all candidates, for confidences."""
    scores = iter(_mid_ranks([each.score for each in predictions if each.score is not None]))
    confidences = iter(_mid_ranks([confidence for each in predictions for confidence, _ in each.detections]))
    return [
        replace(
            each,
            score=None if each.score is None else next(scores),
            detections=tuple((next(confidences), hit) for _, hit in each.detections),
        )
        for each in predictions
    ]


def _differences(both: Sequence[CasePrediction], statistic: Statistic, swapped: BoolArray) -> FloatArray:
    """Return the difference per row of `swapped` (swap, case); `both` is the first arm, then the second."""
    weights = np.concatenate([~swapped, swapped], axis=1).astype(np.float64)
    return statistic.rows(both, weights) - statistic.rows(both, 1 - weights)


def _swaps(patients: int, count: int, exact: bool, seed: int) -> Iterator[BoolArray]:
    """Yield `count` rows (swap, patient), ROWS_AT_ONCE at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, count, ROWS_AT_ONCE):
        size = min(ROWS_AT_ONCE, count - start)
        if exact:
            yield (np.arange(start, start + size)[:, np.newaxis] >> np.arange(patients)) % 2 == 1
        else:
            yield generator.random((size, patients)) < 0.5


def _patients(predictions: Sequence[CasePrediction], sites: Sequence[str]) -> list[tuple[str, str]]:
    return [(site, each.patient_id) for each, site in zip(predictions, sites, strict=True)]


def _align(first: Sequence[CasePrediction], second: Sequence[CasePrediction]) -> list[CasePrediction]:
    """Return `second` in the order of `first`."""
    keys = [[(each.patient_id, each.case_id, each.label, each.lesions) for each in arm] for arm in (first, second)]
    if any(len(set(each)) != len(each) for each in keys) or set(keys[0]) != set(keys[1]):
        raise ValueError(
            f"Expected the same cases with the same truth in both arms, each once, found {len(first)} and "
            f"{len(second)} cases of which {len(set(keys[0]) & set(keys[1]))} agree. Compare arms on one test split."
        )
    place = {key: index for index, key in enumerate(keys[1])}
    return [second[place[key]] for key in keys[0]]


def _mid_ranks(values: Sequence[float]) -> list[float]:
    ordered = np.sort(np.array(values, dtype=np.float64))
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return [] if not ordered.size else ((below + 1 + up_to) / (2 * ordered.size)).tolist()
