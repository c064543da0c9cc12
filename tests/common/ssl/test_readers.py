"""Reads -> majority, mean, vote histogram, confidence, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prostafed.common.ssl.readers import confidence, majority, mean_score

READS = st.lists(st.integers(1, 5), max_size=7).map(tuple)


@pytest.mark.parametrize(
    ("reads", "label", "paper", "code"),
    [
        ((), None, 0.0, 0.0),
        ((4,), 1, 0.1, 1.0),
        ((2,), 0, 0.1, 1.0),
        ((3,), None, 0.0, 0.0),
        ((4, 5, 4), 1, 1.0, 1.0),
        ((4, 5, 2), 1, 1 / 3, 2 / 3),
        ((4, 2), None, 0.0, 0.0),  # an even split
        ((4, 2, 1), 0, 1 / 3, 2 / 3),
        ((4, 4, 3), 1, 1 / 3, 2 / 3),  # an undecided read counts as a read
        ((1, 3, 3), 0, 0.0, 1 / 3),  # 2 (1/3 - 1/2) is below 0: unlabelled
        ((5, 5, 4, 4, 1, 2, 1), 1, 1 / 7, 4 / 7),  # the least confidence an odd number of reads up to 7 gives
    ],
)
def test_majority_and_confidence(reads: tuple[int, ...], label: int | None, paper: float, code: float) -> None:
    assert majority(reads) == label
    assert confidence(reads, "paper", 0.1) == pytest.approx(paper)
    assert confidence(reads, "code", 0.1) == pytest.approx(code)
    assert confidence(reads, "none", 0.1) == (1.0 if reads else 0.0)


def test_mean() -> None:
    assert mean_score((4, 5, 2)) == pytest.approx(11 / 3)
    assert mean_score(()) is None


@given(reads=READS, rule=st.sampled_from(["paper", "code", "none"]))
def test_order_of_readers_does_not_matter_and_everything_stays_in_range(reads: tuple[int, ...], rule: str) -> None:
    backwards = reads[::-1]
    assert majority(reads) == majority(backwards)
    assert confidence(reads, rule, 0.1) == confidence(backwards, rule, 0.1)
    assert 0 <= confidence(reads, rule, 0.1) <= 1
    assert (mean_score(reads) is None) == (not reads)
    if reads:
        shares = {score: reads.count(score) / len(reads) for score in range(1, 6)}
        assert sum(score * share for score, share in shares.items()) == pytest.approx(mean_score(reads))
