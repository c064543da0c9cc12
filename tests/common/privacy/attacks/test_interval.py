"""Intervals of shares and means."""

import numpy as np
import pytest

from prostafed.common.privacy.attacks.interval import mean_interval, share_interval


def test_shares_by_the_books() -> None:
    """Newcombe 1998, table I: 81 of 263 and 15 of 148; none and all keep an interval."""
    assert share_interval(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share_interval(15, 148)[1:] == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert share_interval(0, 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)
    assert share_interval(20, 20)[2] == 1.0


@pytest.mark.parametrize(("hits", "count"), [(1, 0), (3, 2), (-1, 2)])
def test_impossible_shares_are_refused(hits: float, count: int) -> None:
    with pytest.raises(ValueError, match="among 1 or more"):
        share_interval(hits, count)


def test_means_hold_what_they_were_drawn_around() -> None:
    held = 0
    for seed in range(100):
        _, low, high = mean_interval(np.random.default_rng(seed).normal(3, 1, 30).tolist(), seed)
        held += low <= 3 <= high
    assert 87 <= held <= 99
    assert mean_interval([2.0, 2.0], 0) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="two values"):
        mean_interval([1.0], 0)
