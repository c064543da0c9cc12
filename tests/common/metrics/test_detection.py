import contextlib
import io
from fractions import Fraction
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner
    from picai_eval import evaluate

from prostafed.common.metrics.candidates import Candidates
from prostafed.common.metrics.detection import (
    LESION_AP,
    PICAI_SCORE,
    _assign,
    detect,
    lesion_sensitivity,
    match_lesions,
)
from prostafed.common.metrics.predictions import CasePrediction

Volume = npt.NDArray[np.float32]


def row(*voxels: int) -> npt.NDArray[np.uint8]:
    """A mask or label map of one row."""
    return np.array([[voxels]], dtype=np.uint8)


def candidates(labels: npt.NDArray[np.uint8], *confidences: float) -> Candidates:
    return Candidates(labels.astype(np.int32), confidences)


@pytest.mark.parametrize(
    ("found", "lesion", "expected", "lesions"),
    [
        (candidates(row(1, 1, 0, 0), 0.9), row(0, 1, 1, 0), ((0.9, True),), 1),  # IoU 1/3
        (candidates(row(1, 1, 0, 0), 0.9), row(0, 0, 0, 1), ((0.9, False),), 1),
        (candidates(row(1, 1, 0, 0), 0.9), row(0, 0, 0, 0), ((0.9, False),), 0),
        (candidates(row(0, 0, 0, 0)), row(1, 0, 1, 0), (), 2),
        # Two candidates on one lesion: the better overlap is the hit, the other neither hit nor false positive.
        (candidates(row(1, 0, 2, 2), 0.9, 0.5), row(1, 1, 1, 1), ((0.5, True),), 1),
        # Both are hits if the first gives up the lesion it overlaps best: matches come before overlap.
        (
            candidates(row(*[2] * 4, *[1] * 20), 0.9, 0.5),
            row(*[1] * 20, 0, 0, 1, 1),
            ((0.9, True), (0.5, True)),
            2,
        ),
        # One candidate over two lesions hits one of them; the other is missed.
        (candidates(row(1, 1, 1, 0), 0.9), row(1, 0, 1, 0), ((0.9, True),), 2),
    ],
)
def test_matches_by_hand(
    found: Candidates, lesion: npt.NDArray[np.uint8], expected: tuple[tuple[float, bool], ...], lesions: int
) -> None:
    assert match_lesions(found, lesion) == (expected, lesions)


@pytest.mark.parametrize(("size", "hit"), [(10, True), (11, False)])
def test_an_overlap_of_a_tenth_is_a_hit(size: int, hit: bool) -> None:
    found, lesion = np.zeros((1, 1, 12), dtype=np.uint8), np.zeros((1, 1, 12), dtype=np.uint8)
    found[..., 0], lesion[..., :size] = 1, 1
    assert match_lesions(candidates(found, 0.9), lesion)[0] == ((0.9, hit),)


def test_as_many_matches_as_possible_come_before_overlap() -> None:
    # Candidate 0 overlaps lesion 0 best, but only so can candidate 1 not be matched: both matches win.
    assert _assign(np.array([[1.9, 1.2], [1.2, 0.0]])) == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_the_assignment_is_the_best_of_all(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gain = np.where(generator.random((4, 5)) < 0.5, 1 + generator.random((4, 5)), 0.0)
    best = max(permutations(range(5), 4), key=lambda columns: sum(gain[r, c] for r, c in enumerate(columns)))
    assert _assign(gain) == {column for r, column in enumerate(best) if gain[r, column] > 0}


def case(name: int, label: bool, score: float, lesions: int, *detections: tuple[float, bool]) -> CasePrediction:
    return CasePrediction(str(name), str(name), label, score, detections, lesions)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([case(0, True, 0.9, 1, (0.9, True))], Fraction(1)),
        ([case(0, True, 0.9, 2, (0.9, True))], Fraction(1, 2)),  # one lesion never found
        ([case(0, True, 0.8, 1, (0.8, True)), case(1, False, 0.9, 0, (0.9, False))], Fraction(1, 2)),
        ([case(0, True, 0.8, 2, (0.9, True), (0.8, False), (0.7, True))], Fraction(5, 6)),
        ([case(0, True, 0.0, 1)], Fraction(0)),  # nothing found at all
        ([case(0, False, 0.9, 0, (0.9, False))], None),  # nothing to find
        ([], None),
    ],
)
def test_lesion_average_precision_by_hand(predictions: list[CasePrediction], expected: Fraction | None) -> None:
    value = LESION_AP(predictions)
    assert (None if value is None else pytest.approx(value)) == (None if expected is None else float(expected))


@pytest.mark.parametrize(("allowed", "expected"), [(0.0, 1 / 3), (0.5, 2 / 3), (1.0, 2 / 3), (0.4, 1 / 3)])
def test_sensitivity_at_false_positives_per_case_by_hand(allowed: float, expected: float) -> None:
    predictions = [case(0, True, 0.9, 3, (0.9, True), (0.8, False), (0.7, True)), case(1, False, 0.0, 0)]
    assert lesion_sensitivity(allowed)(predictions) == pytest.approx(expected)


def test_no_sensitivity_where_the_first_candidate_is_false() -> None:
    predictions = [case(0, True, 0.9, 1, (0.9, False), (0.8, True))]
    assert lesion_sensitivity(0.5)(predictions) == 0
    assert lesion_sensitivity(1.0)(predictions) == 1


def test_picai_score_is_the_mean_of_both() -> None:
    predictions = [case(0, True, 0.8, 2, (0.8, True)), case(1, False, 0.3, 0, (0.3, False))]
    assert PICAI_SCORE(predictions) == pytest.approx((1 + 1 / 2) / 2)
    assert PICAI_SCORE(predictions[:1]) is None  # no AUROC without a negative case


def make_case(seed: int) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """A smooth map and lesions where a related texture is high: some found, some missed, some touching two."""
    generator = np.random.default_rng(seed)
    truth = ndimage.gaussian_filter(generator.standard_normal((8, 40, 40)), (1, 2.5, 2.5))
    guess = truth + ndimage.gaussian_filter(generator.standard_normal((8, 40, 40)), (1, 2.5, 2.5))
    lesion = (truth > np.quantile(truth, 0.985)) if seed % 3 else np.zeros(truth.shape)
    return np.clip(guess / guess.max(), 0, 1).astype(np.float32) * np.float32(generator.uniform(0.3, 1)), lesion.astype(
        np.uint8
    )


def test_agrees_with_picai_eval_on_whole_cases() -> None:
    cases = [make_case(seed) for seed in range(18)]
    found = [detect(volume, lesion) for volume, lesion in cases]
    # What the challenge is given: each candidate painted with its confidence.
    painted = [_paint(volume) for volume, _ in cases]
    reference = evaluate(painted, [lesion for _, lesion in cases], num_parallel_calls=1)
    predictions = [
        CasePrediction(str(index), str(index), one.lesions > 0, one.score, one.detections, one.lesions)
        for index, one in enumerate(found)
    ]
    assert any(prediction.lesions > sum(hit for _, hit in prediction.detections) for prediction in predictions)
    assert any(not hit for prediction in predictions for _, hit in prediction.detections)
    assert LESION_AP(predictions) == pytest.approx(reference.AP, abs=1e-6)
    assert PICAI_SCORE(predictions) == pytest.approx(reference.score, abs=1e-6)
    for allowed in (0.5, 1.0, 2.0):
        expected = reference.lesion_TPR_at_FPR(allowed)
        assert lesion_sensitivity(allowed)(predictions) == pytest.approx(expected, abs=1e-6)


def _paint(volume: Volume) -> Volume:
    from report_guided_annotation.extract_lesion_candidates import extract_lesion_candidates_dynamic

    painted: Volume = extract_lesion_candidates_dynamic(volume, version=2)[0]
    return painted
