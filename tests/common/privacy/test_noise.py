"""Noise from bytes: its distribution, and that it can be repeated only where that is asked for."""

import numpy as np
import pytest
from scipy import stats

from prostafed.common.privacy.noise import draw_gaussian, draw_uniform, open_sources


def test_values_are_standard_normal_out_to_the_tails() -> None:
    values = draw_gaussian(open_sources(0)(0), 500, 400).ravel()
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert stats.kurtosis(values) == pytest.approx(0, abs=0.05)
    assert (np.abs(values) > 3).mean() == pytest.approx(0.0027, rel=0.15)


def test_uniform_values_are_multiples_of_the_last_digit_in_reach() -> None:
    values = draw_uniform(open_sources(1)(0), 10_000)
    assert ((values >= 0) & (values < 1)).all()
    assert (values * 2.0**53 % 1 == 0).all()
    assert stats.kstest(values, "uniform").pvalue > 0.001


def test_without_a_seed_nothing_repeats_and_with_one_everything_does() -> None:
    def draw(seed: int | None, step: int, *parts: str) -> bytes:
        return open_sources(seed, *parts)(step)(16)

    assert draw(None, 0) != draw(None, 0)
    assert draw(5, 0, "north") == draw(5, 0, "north")
    assert len({draw(5, 0, "north"), draw(5, 1, "north"), draw(5, 0, "south"), draw(6, 0, "north")}) == 4


def test_all_bits_of_a_seed_count() -> None:
    """torch's generator on a CPU takes 32 of them."""
    assert open_sources(1)(0)(8) != open_sources(1 + 2**32)(0)(8)


def test_a_shape_of_no_values_is_fine() -> None:
    assert draw_gaussian(open_sources(0)(0), 3, 0).shape == (3, 0)
    assert draw_gaussian(open_sources(0)(0)).shape == ()
