from fractions import Fraction

import numpy as np
import pytest

from prostafed.common.errors import DivergedError
from prostafed.common.secagg.fixed_point import FORMS, MOST_SITES, find_step, open_total, to_integers, to_mean
from prostafed.common.secagg.masking import add_to
from prostafed.common.tensors import Tensors


def make(*values: float) -> Tensors:
    return {"encoder.w": np.array(values, np.float32)}


def test_a_change_by_hand() -> None:
    """The largest weight is .5: fixed32 carries changes of 2, in steps of 2 / 2**31."""
    sent, trained = make(0.5, -0.25, 0.0), make(0.5 + 2.0**-10, -0.25, -(2.0**-20))
    assert find_step(sent["encoder.w"], "fixed32") == 2.0**-30
    whole = to_integers(sent, trained, Fraction(1, 4), "fixed32")["encoder.w"]
    assert whole.dtype == np.uint32
    assert whole.view(np.int32).tolist() == [2**18, 0, -(2**8)]


@pytest.mark.parametrize(
    ("rule", "largest", "step"),
    [
        ("fixed32", 0.0, 1 / 2**31),
        ("fixed32", 0.25, 1 / 2**31),
        ("fixed32", 0.26, 2 / 2**31),
        ("fixed32", 3.0, 16 / 2**31),
        ("fixed16", 0.0, 0.25 / 2**15),
        ("fixed16", 0.25, 0.25 / 2**15),
        ("fixed16", 1.5, 2 / 2**15),
    ],
)
def test_the_step_follows_from_the_largest_weight(rule: str, largest: float, step: float) -> None:
    assert find_step(np.array([-largest, 0], np.float32), rule) == step
    assert find_step(np.array([largest, 0], np.float32), rule) == step
    assert find_step(np.zeros(0, np.float32), rule) == find_step(np.zeros(1, np.float32), rule)


@pytest.mark.parametrize("rule", FORMS)
@pytest.mark.parametrize("sites", [1, 3, 50])
def test_the_sum_of_the_largest_changes_does_not_wrap(rule: str, sites: int) -> None:
    """All move as far as they may, in the same direction: the mean is that change, not its opposite."""
    sent = make(0.0, 0.0)
    most = find_step(sent["encoder.w"], rule) * (FORMS[rule].half - MOST_SITES) * (1 - 2.0**-22)
    trained, total = make(most, -most), open_total(sent, rule)
    for _ in range(sites):
        add_to(total, to_integers(sent, trained, Fraction(1, sites), rule))
    mean = to_mean(sent, total, Fraction(1), rule)["encoder.w"]
    np.testing.assert_allclose(mean, trained["encoder.w"], atol=sites * find_step(sent["encoder.w"], rule))


@pytest.mark.parametrize("rule", FORMS)
def test_the_mean_is_that_of_floats_up_to_rounding(rule: str) -> None:
    rng, cases = np.random.default_rng(0), [30, 5, 200, 64]
    sent = {"a": rng.normal(size=(4, 3)).astype(np.float32), "count": np.array([3], np.int64)}
    trained = [
        {"a": (sent["a"] + rng.normal(size=(4, 3)) * 0.02).astype(np.float32), "count": np.array([8], np.int64)}
        for _ in cases
    ]
    total, there = open_total(sent, rule), [0, 2, 3]  # one has dropped out: the mean is that of the others
    for site in there:
        add_to(total, to_integers(sent, trained[site], Fraction(cases[site], sum(cases)), rule))
    weight = Fraction(sum(cases[site] for site in there), sum(cases))
    mean = to_mean(sent, total, weight, rule)
    expected = sum(cases[site] * trained[site]["a"].astype(np.float64) for site in there) / 294
    tolerance = 2 * find_step(sent["a"], rule) / float(weight) + 1e-7
    np.testing.assert_allclose(mean["a"], expected, atol=tolerance, rtol=0)
    assert mean["a"].dtype == np.float32
    assert mean["count"].tolist() == [3], "a counter stays as the global model has it"
    assert "count" not in total


@pytest.mark.parametrize("rule", FORMS)
@pytest.mark.parametrize("value", [1.5, -1.5, np.nan, np.inf, -np.inf])
def test_what_goes_too_far_is_refused(rule: str, value: float) -> None:
    with pytest.raises(DivergedError, match=r"encoder\.w changed by .* carries .* at most"):
        to_integers(make(0.0, 0.0), make(0.0, value), Fraction(1, 3), rule)


def test_nothing_that_came_in_is_changed() -> None:
    sent, trained = make(0.5, 1.0), make(0.6, 1.2)
    total = to_integers(sent, trained, Fraction(1, 2), "fixed16")
    to_mean(sent, total, Fraction(1, 2), "fixed16")
    np.testing.assert_array_equal(sent["encoder.w"], make(0.5, 1.0)["encoder.w"])
    np.testing.assert_array_equal(trained["encoder.w"], make(0.6, 1.2)["encoder.w"])
