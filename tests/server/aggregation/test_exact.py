"""The exact sum: against fractions, its limits, nothing left behind by what it refuses."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.tensors import BLOCK, Tensors
from prostafed.server.aggregation import exact
from prostafed.server.aggregation.exact import ExactSum, add_weighted, open_sum, read_means
from prostafed.server.exchange.admission import RejectedError
from tests.server.aggregation.regions import merge

weights = st.integers(1, 2000)
values = st.floats(-1000, 1000, width=32).filter(lambda value: value == 0 or abs(value) > 1e-17)


def add(total: ExactSum, value: list[float], weight: float) -> ExactSum:
    return add_weighted(total, {"w": np.array(value, np.float32)}, {"w": Fraction(weight)})


def mean_of(total: ExactSum) -> list[float]:
    return [value for _, _, mean in read_means(total) for value in mean.tolist()]


def empty(size: int = 1) -> ExactSum:
    return open_sum({"w": np.zeros(size, np.float32)})


@given(st.lists(st.tuples(values, weights), min_size=1, max_size=8))
def test_the_mean_is_the_exact_one_rounded(summands: list[tuple[float, int]]) -> None:
    total = empty()
    for value, weight in summands:
        total = add(total, [value], weight)
    weighted = sum(Fraction(value) * weight for value, weight in summands)
    wanted = float(weighted / sum(weight for _, weight in summands))
    assert mean_of(total) == [pytest.approx(wanted, rel=4e-16, abs=1e-24)]


@given(values, st.lists(weights, min_size=1, max_size=8))
def test_equal_values_return_themselves(value: float, counts: list[int]) -> None:
    total = empty()
    for weight in counts:
        total = add(total, [value], weight)
    assert np.float32(mean_of(total)[0]) == np.float32(value)


def test_values_longer_than_a_block_stay_in_place() -> None:
    size = 2 * BLOCK + 3
    ramp = np.arange(size, dtype=np.float32)
    total = add_weighted(add_weighted(empty(size), {"w": ramp}, {"w": Fraction(1)}), {"w": -ramp}, {"w": Fraction(3)})
    np.testing.assert_array_equal(mean_of(total), -ramp / 2)


def test_what_cancels_leaves_the_small_rest() -> None:
    total = add(add(add(empty(), [1000.0], 1), [1e-12], 1), [-1000.0], 1)
    assert mean_of(total)[0] * 3 == pytest.approx(float(np.float32(1e-12)), rel=1e-9)


@pytest.mark.parametrize("too_much", [2.0**21, -(2.0**21), np.inf, np.nan])
def test_what_is_too_large_is_rejected_and_leaves_no_trace(too_much: float) -> None:
    tensors: Tensors = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    total = add_weighted(open_sum(tensors), tensors, {"a": Fraction(2), "b": Fraction(2)})
    bad = {"a": np.ones(2, np.float32) * 7, "b": np.array([1, too_much], np.float32)}
    with pytest.raises(RejectedError, match=r"b holds .* too large") as caught:
        add_weighted(total, bad, {"a": Fraction(1), "b": Fraction(1)})
    assert caught.value.code == "TOO_LARGE"
    assert mean_of(total) == [1.0] * 4


def test_no_more_replies_than_the_integers_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_REPLIES", 2)
    total = add(add(empty(), [1.0], 1), [3.0], 1)
    with pytest.raises(RejectedError, match="2 replies already"):
        add(total, [1.0], 1)
    with pytest.raises(RejectedError, match="more than 2"):
        merge(total, add(empty(), [1.0], 1))
    assert mean_of(total) == [2.0]


def test_the_largest_sums_do_not_overflow() -> None:
    total, most = empty(), np.nextafter(np.float32(2.0**21), np.float32(0))
    for _ in range(exact.MOST_REPLIES):
        total = add(total, [most], 1)
    assert mean_of(total) == [most]


def test_weights_may_be_fractions_and_divisors_others() -> None:
    total = open_sum({"w": np.zeros(1, np.float32)})
    total = add_weighted(total, {"w": np.array([3.0], np.float32)}, {"w": Fraction(1, 3)})
    total = add_weighted(total, {"w": np.array([3.0], np.float32)}, {"w": Fraction(2, 3)})
    assert mean_of(total) == [pytest.approx(3.0)]
    total = add_weighted(
        empty(), {"w": np.array([3.0], np.float32)}, {"w": Fraction(1, 2)}, divisors={"w": Fraction(4)}
    )
    assert mean_of(total) == [0.375]


def test_two_sums_make_that_of_all() -> None:
    rng = np.random.default_rng(0)
    replies = [(rng.normal(size=5).astype(np.float32), int(rng.integers(1, 90))) for _ in range(6)]
    whole, left, right = empty(5), empty(5), empty(5)
    for number, (value, weight) in enumerate(replies):
        whole = add(whole, list(value), weight)
        left, right = (add(left, list(value), weight), right) if number % 3 else (left, add(right, list(value), weight))
    assert mean_of(merge(right, left)) == mean_of(whole)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_floating_dtype(dtype: type) -> None:
    tensors = {"w": np.array([0.1, -2.5, 0.0], dtype)}
    total = add_weighted(open_sum(tensors), tensors, {"w": Fraction(7)})
    np.testing.assert_allclose(mean_of(total), tensors["w"].astype(np.float64), rtol=3e-16)
