import contextlib
import io
from fractions import Fraction
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner
    from picai_eval import Metrics, evaluate

from prostafed.common.metrics.candidates import Candidates
from prostafed.common.metrics.detection import (
    LESION_AP,
    PICAI_SCORE,
    _assign,
    detect,
    froc_curve,
    lesion_sensitivity,
    match_lesions,
)
from prostafed.common.metrics.diagnosis import AUROC
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
    assert AUROC(predictions) == pytest.approx(reference.auroc, abs=1e-9)
    assert LESION_AP(predictions) == pytest.approx(reference.AP, abs=1e-9)
    assert PICAI_SCORE(predictions) == pytest.approx(reference.score, abs=1e-9)
    for allowed in (0.5, 1.0, 2.0):
        expected = reference.lesion_TPR_at_FPR(allowed)
        assert lesion_sensitivity(allowed)(predictions) == pytest.approx(expected, abs=1e-6)


def _paint(volume: Volume) -> Volume:
    from report_guided_annotation.extract_lesion_candidates import extract_lesion_candidates_dynamic

    painted: Volume = extract_lesion_candidates_dynamic(volume, version=2)[0]
    return painted


def test_froc_curve_by_hand() -> None:
    predictions = [
        case(0, True, 0.9, 2, (0.9, True), (0.5, False)),
        case(1, True, 0.5, 1, (0.5, True)),
        case(2, False, 0.7, 0, (0.7, False)),
        case(3, False, 0.0, 0),
    ]
    curve = froc_curve(predictions)
    assert curve is not None
    assert curve.thresholds.tolist() == [0.9, 0.7, 0.5]
    assert curve.sensitivity == pytest.approx([1 / 3, 1 / 3, 2 / 3])  # one lesion of three is never found
    assert curve.false_positives_per_case == pytest.approx([0, 1 / 4, 2 / 4])
    assert froc_curve(predictions[2:]) is None
    assert froc_curve([]) is None


def test_a_froc_curve_without_candidates_is_empty() -> None:
    curve = froc_curve([case(0, True, 0.0, 1)])
    assert curve is not None
    assert curve.thresholds.size == curve.sensitivity.size == curve.false_positives_per_case.size == 0


def make_predictions(seed: int, missed: bool = True) -> list[CasePrediction]:
    """Cases with candidates of tied confidences, as a detector leaves them; without `missed`, every lesion is found."""
    generator = np.random.default_rng(seed)
    predictions = []
    for number in range(int(generator.integers(10, 120))):
        hits = generator.random(generator.integers(0, 6)) < (0.4 if number % 2 else 0.0)
        confidences = np.round(np.clip(generator.normal(0.3 + 0.3 * hits, 0.25), 0.01, 1), 2)
        lesions = int(hits.sum()) + (int(generator.integers(0, 2)) if missed and number % 2 else 0)
        found = tuple((float(each), bool(hit)) for each, hit in zip(confidences, hits, strict=True))
        predictions.append(case(number, lesions > 0, max(confidences, default=0.0), lesions, *found))
    return predictions


def judge(predictions: list[CasePrediction]) -> Metrics:
    """What picai_eval makes of the same candidates: (is lesion, confidence, overlap), a missed lesion with 0."""
    results = {
        index: [(int(hit), confidence, 0.5 * hit) for confidence, hit in each.detections]
        + [(1, 0.0, 0.0)] * (each.lesions - sum(hit for _, hit in each.detections))
        for index, each in enumerate(predictions)
    }
    return Metrics(results, case_pred={index: each.score for index, each in enumerate(predictions)})


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_picai_eval_on_generated_candidates(seed: int) -> None:
    predictions = make_predictions(seed)
    reference = judge(predictions)
    assert AUROC(predictions) == pytest.approx(reference.auroc, abs=1e-9)
    assert LESION_AP(predictions) == pytest.approx(reference.AP, abs=1e-9)
    assert PICAI_SCORE(predictions) == pytest.approx(reference.score, abs=1e-9)
    curve = froc_curve(predictions)
    assert curve is not None
    lesions, cases = sum(each.lesions for each in predictions), len(predictions)
    # It counts in float32: whole numbers are exact. Its last threshold, 0, stands for missed lesions.
    np.testing.assert_array_equal(np.round(curve.sensitivity * lesions, 9), reference.lesion_TP[:-1])
    np.testing.assert_array_equal(np.round(curve.false_positives_per_case * cases, 9), reference.lesion_FP[:-1])
    assert curve.thresholds.tolist() == reference.thresholds[:-1].tolist()
    for allowed in (0.1, 0.5, 1.0, 2.0, 4.0):
        expected = reference.lesion_TP[allowed * cases >= reference.lesion_FP]
        assert lesion_sensitivity(allowed)(predictions) == pytest.approx(max(expected, default=0) / lesions, abs=1e-9)


def test_picai_eval_leaves_out_the_lowest_threshold_where_no_lesion_is_missed() -> None:
    predictions = make_predictions(0, missed=False)
    reference, curve = judge(predictions), froc_curve(predictions)
    assert curve is not None
    assert LESION_AP(predictions) == pytest.approx(reference.AP, abs=1e-9)
    lesions = sum(each.lesions for each in predictions)
    np.testing.assert_array_equal(np.round(curve.sensitivity * lesions, 9)[:-1], reference.lesion_TP[:-1])
    assert (curve.sensitivity[-1], reference.lesion_FP[-1]) == (1.0, np.inf)
