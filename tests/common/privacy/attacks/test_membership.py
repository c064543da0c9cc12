"""Membership: planted signals are found, the absence of one is said to be that, sacroml computes the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.common.privacy.attacks.membership import judge_scores, standardise

GOLDEN = json.loads((Path(__file__).parent / "golden_sacroml.json").read_text())


def people(scores: "list[float] | np.ndarray", name: str) -> list[tuple[str, float]]:
    return [(f"{name}{number}", float(score)) for number, score in enumerate(scores)]


def test_separated_scores_give_an_auc_of_one_with_an_interval() -> None:
    auc, found = judge_scores("loss", "north", people([2.0] * 12, "m"), people([1.0] * 10, "o"), seed=0)
    assert (auc.value, auc.high, auc.chance, auc.measure) == (1.0, 1.0, 0.5, "AUC")
    assert auc.low == pytest.approx(0.05**0.1)  # ten rightly ranked do not show certainty
    assert auc.of == "12 members, 10 others"
    assert auc.verdict == "above chance"
    assert found.value == 1.0


def test_reversed_scores_give_zero() -> None:
    auc = judge_scores("loss", "", people([1.0] * 5, "m"), people([2.0] * 5, "o"), seed=0)[0]
    assert (auc.value, auc.low, auc.verdict) == (0.0, 0.0, "not above chance")
    assert auc.high == pytest.approx(1 - 0.05**0.2)


def test_by_hand() -> None:
    """Of the four pairs one is tied and three are right: 3.5 / 4."""
    assert judge_scores("loss", "", people([3, 2], "m"), people([2, 1], "o"), seed=0)[0].value == pytest.approx(3.5 / 4)


def test_true_positives_at_a_tenth_of_false_ones_by_hand() -> None:
    """Ten others: one of them may be mistaken. Above the second highest other, 5, lie three of four members."""
    others = people([9, 5, 4, 4, 4, 3, 3, 2, 1, 0], "o")
    found = judge_scores("loss", "", people([10, 8, 6, 5], "m"), others, seed=0)[1]
    assert found.value == pytest.approx(3 / 4)


def test_with_fewer_than_ten_others_a_tenth_is_not_defined() -> None:
    assert len(judge_scores("loss", "", people([1, 2], "m"), people(list(range(9)), "o"), seed=0)) == 1


def test_the_interval_holds_one_half_where_there_is_no_signal() -> None:
    held = 0
    for seed in range(100):
        scores = np.random.default_rng(seed).normal(size=70)
        auc = judge_scores("loss", "", people(scores[:40], "m"), people(scores[40:], "o"), seed)[0]
        held += auc.low <= 0.5 <= auc.high
    assert 88 <= held <= 99


def test_cases_of_one_patient_are_drawn_together() -> None:
    """Twenty cases of two patients tell no more than two patients do."""
    generator = np.random.default_rng(0)
    alone = people(generator.normal(1, 1, 20), "m")
    together = [(f"m{number % 2}", score) for number, (_, score) in enumerate(alone)]
    others = people(generator.normal(0, 1, 20), "o")
    wide, narrow = (judge_scores("loss", "", members, others, 0)[0] for members in (together, alone))
    assert wide.value == narrow.value
    assert wide.of == "2 members, 20 others"
    assert (wide.low, wide.high) != (narrow.low, narrow.high)


@pytest.mark.parametrize("table", GOLDEN["tables"])
def test_sacroml_finds_the_same(table: dict[str, "list[float] | float"]) -> None:
    member, scores = table["member"], table["scores"]
    assert isinstance(member, list) and isinstance(scores, list)  # noqa: PT018
    sides = [people([s for s, m in zip(scores, member, strict=True) if m == side], str(side)) for side in (1, 0)]
    assert judge_scores("loss", "", sides[0], sides[1], seed=0)[0].value == pytest.approx(table["auc"], abs=1e-8)


def test_too_few_patients_and_infinite_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="2 patients or more"):
        judge_scores("loss", "", [("a", 1.0), ("a", 2.0)], people([1, 2], "o"), seed=0)
    with pytest.raises(DataError, match="finite"):
        judge_scores("loss", "", people([np.inf, 1], "m"), people([1, 2], "o"), seed=0)


def test_sites_are_pooled_on_one_scale() -> None:
    members, others = standardise(people([10, 12], "m"), people([8, 10], "o"))
    scores = [score for _, score in [*members, *others]]
    assert np.mean(scores) == pytest.approx(0)
    assert np.std(scores) == pytest.approx(1)
    assert [patient for patient, _ in members] == ["m0", "m1"]
    assert standardise(people([1], "m"), people([1], "o"))[0] == [("m0", 0.0)]
