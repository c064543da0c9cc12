import time
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from prostafed.common.metrics.detection import LESION_AP, PICAI_SCORE, froc_curve
from prostafed.common.metrics.diagnosis import AUROC, BRIER
from prostafed.common.metrics.permutation import paired_permutation_test, rank_within
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import mean_of
from tests.common.metrics.of_arrays import auroc

DICE = mean_of("gland_dice")


def measured(*values: float) -> list[CasePrediction]:
    return [CasePrediction(str(i), str(i), None, None, measures={"gland_dice": x}) for i, x in enumerate(values)]


def arms(count: int, seed: int, gain: float = 0.0) -> tuple[list[CasePrediction], list[CasePrediction]]:
    """Two models on the same cases whose scores share much of their noise; the first tells csPCa better by `gain`."""
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.4
    labels[:2] = True, False
    shared = generator.normal(0.4 + 0.15 * labels, 0.12)
    scores = [np.clip(shared + extra * (labels - 0.5) + generator.normal(0, 0.1, count), 0, 1) for extra in (gain, 0.0)]
    first, second = (
        [
            CasePrediction(
                str(i), str(i), bool(labels[i]), float(each[i]), ((float(each[i]), bool(labels[i])),), int(labels[i])
            )
            for i in range(count)
        ]
        for each in scores
    )
    return first, second


def test_three_patients_by_hand() -> None:
    found = paired_permutation_test(measured(0.9, 0.8, 0.7), measured(0.6, 0.6, 0.6), DICE, seed=0)
    assert found is not None
    # Differences 0.3, 0.2, 0.1: of 8 signs only +++ and --- give a mean as far from 0 as 0.2.
    assert (found.difference, found.p_value) == (pytest.approx(0.2), 2 / 8)
    assert (found.permutations, found.exact) == (8, True)


def test_equal_arms_differ_by_nothing() -> None:
    first, _ = arms(10, 0)
    for statistic in (AUROC, BRIER, LESION_AP, PICAI_SCORE):
        found = paired_permutation_test(first, first[::-1], statistic, seed=0)
        assert found is not None
        assert (found.difference, found.p_value) == (0.0, 1.0)


def test_the_other_way_round_has_the_same_p() -> None:
    first, second = arms(11, 3, gain=0.2)
    there, back = (paired_permutation_test(*pair, AUROC, seed=0) for pair in ((first, second), (second, first)))
    assert there is not None
    assert back is not None
    assert (there.difference, there.p_value) == (pytest.approx(-back.difference), back.p_value)


@pytest.mark.parametrize("seed", range(3))
def test_exact_as_scipy_says(seed: int) -> None:
    first, second = arms(9, seed, gain=0.1)
    labels = [each.label for each in first]

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return auroc(labels, a) - auroc(labels, b)  # type: ignore[operator]

    scores = [np.array([each.score for each in arm]) for arm in (first, second)]
    expected = stats.permutation_test(
        scores, difference, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    found = paired_permutation_test(first, second, AUROC, seed=0)
    assert found is not None
    assert found.exact
    assert found.difference == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)


def test_drawn_swaps_come_near_all_swaps() -> None:
    first, second = arms(12, 5, gain=0.1)
    exact = paired_permutation_test(first, second, BRIER, seed=0)
    drawn = paired_permutation_test(first, second, BRIER, seed=0, permutations=4000)
    assert exact is not None
    assert drawn is not None
    assert (exact.exact, exact.permutations, drawn.exact, drawn.permutations) == (True, 4096, False, 4000)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.03)


def test_seeded_and_never_zero() -> None:
    first, second = arms(200, 0, gain=0.4)
    found = paired_permutation_test(first, second, AUROC, seed=7, permutations=999)
    assert found is not None
    assert found == paired_permutation_test(first, second, AUROC, seed=7, permutations=999)
    assert found.p_value == 1 / 1000
    assert found.difference > 0.05


def test_patients_are_swapped_with_all_their_cases() -> None:
    first, second = measured(0.9, 0.8, 0.4, 0.4), measured(0.5, 0.5, 0.5, 0.5)
    one, two = ([replace(each, patient_id=str(i // 2)) for i, each in enumerate(arm)] for arm in (first, second))
    found = paired_permutation_test(one, two, DICE, seed=0)
    assert found is not None
    # The patients differ by 0.7 and -0.2: with either swapped, that is 0.9 instead of 0.5.
    assert (found.permutations, found.p_value) == (4, 1.0)
    two_sites = paired_permutation_test(one, two, DICE, seed=0, groups=["a", "a", "b", "b"])
    assert two_sites == found
    parted = paired_permutation_test(one, two, DICE, seed=0, groups=["a", "b", "a", "b"])
    assert parted is not None
    assert parted.permutations == 16


def test_p_is_even_where_nothing_differs() -> None:
    values = []
    for seed in range(200):
        first, second = arms(40, seed)
        found = paired_permutation_test(first, second, AUROC, seed=seed, permutations=199)
        assert found is not None
        values.append(found.p_value)
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) <= 0.05) < 0.1


def test_the_order_of_cases_is_irrelevant_and_arms_must_agree() -> None:
    first, second = arms(10, 1, gain=0.1)
    plain = paired_permutation_test(first, second, AUROC, seed=0)
    assert paired_permutation_test(first, second[3:] + second[:3], AUROC, seed=0) == plain
    for other in (second[1:], [replace(second[0], label=not second[0].label), *second[1:]], second + second[:1]):
        with pytest.raises(ValueError, match="the same cases with the same truth"):
            paired_permutation_test(first, other, AUROC, seed=0)
    with pytest.raises(ValueError, match="the same cases"):
        paired_permutation_test(first + first[:1], second + second[:1], AUROC, seed=0)


def test_undefined_is_none() -> None:
    first, second = arms(10, 0)
    assert paired_permutation_test([], [], AUROC, seed=0) is None
    positives = [[each for each in arm if each.label] for arm in (first, second)]
    assert paired_permutation_test(*positives, AUROC, seed=0) is None


def test_ranks_by_hand() -> None:
    cases = [
        CasePrediction("a", "a", True, 0.9, ((0.9, True), (0.2, False)), 1),
        CasePrediction("b", "b", False, 0.2, ((0.2, False),), 0),
        CasePrediction("c", "c", False, 0.2),
        CasePrediction("d", "d", None, None),
    ]
    ranked = rank_within(cases)
    assert [each.score for each in ranked] == [1.0, 0.5, 0.5, None]
    assert [each.detections for each in ranked] == [((1.0, True), (0.5, False)), ((0.5, False),), (), ()]
    assert rank_within([]) == []


def test_ranks_keep_what_ranks_and_forgive_a_scale() -> None:
    first, _ = arms(60, 2)
    halved = [
        replace(each, score=each.score / 2, detections=tuple((c / 2, hit) for c, hit in each.detections))  # type: ignore[operator]
        for each in first
    ]
    for statistic in (AUROC, LESION_AP, PICAI_SCORE):
        assert statistic(rank_within(first)) == pytest.approx(statistic(first))
    assert rank_within(halved) == rank_within(first)
    curves = froc_curve(rank_within(first)), froc_curve(first)
    np.testing.assert_allclose(curves[0].sensitivity, curves[1].sensitivity)  # type: ignore[union-attr]


def test_ten_thousand_swaps_of_300_patients_take_seconds() -> None:
    first, second = arms(300, 0)
    started = time.perf_counter()
    paired_permutation_test(first, second, PICAI_SCORE, seed=0)
    assert time.perf_counter() - started < 10
