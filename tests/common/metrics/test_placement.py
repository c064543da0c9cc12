import numpy as np
import pytest

from prostafed.common.metrics.histograms import BINS
from prostafed.common.metrics.placement import expected_precision, spread
from tests.common.metrics.of_arrays import average_precision


def test_cells_keep_their_counts_and_lean_to_where_other_sites_are() -> None:
    starts, stops = np.array([0, 0, 200, 210]), np.array([BINS, 200, 210, BINS])
    placed = spread(starts, stops, np.array([10.0, 0.0, 40.0, 0.0]))
    np.testing.assert_allclose(placed.sum(axis=1), [10, 0, 40, 0])
    assert placed[0, 200:210].sum() > 9.9  # evenly it would be 0.4
    assert not placed[2, :200].any()
    alone = spread(np.array([0]), np.array([BINS]), np.array([5.0]))
    np.testing.assert_allclose(alone, 5 / BINS)


def test_the_outermost_cells_of_a_site_fall_off() -> None:
    starts, stops = np.array([0, 100, 110]), np.array([100, 110, BINS])
    low, middle, high = spread(starts, stops, np.array([10.0, 10.0, 10.0]))
    assert low[60:100].sum() > 8  # e^-2 lies further than two falls of 2 x 10 bins
    assert high[110:150].sum() > 8
    np.testing.assert_allclose(middle[100:110], 1.0)
    two = spread(np.array([0, 100]), np.array([100, BINS]), np.array([10.0, 10.0]))  # none in the middle to go by
    np.testing.assert_allclose(two[0, :100], 0.1)


def test_inner_cells_are_even_however_many_a_site_has() -> None:
    starts, stops = np.array([0, 100, 110, 130]), np.array([100, 110, 130, BINS])
    _, first, second, _ = spread(starts, stops, np.array([10.0, 10.0, 10.0, 10.0]))
    np.testing.assert_allclose(first[100:110], 1.0)
    np.testing.assert_allclose(second[110:130], 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_where_all_places_are_known_the_precision_is_exact(seed: int) -> None:
    generator = np.random.default_rng(seed)
    bins = generator.permutation(BINS)[:40]
    labels = generator.random(40) < 0.4
    placed = np.zeros((40, BINS))
    placed[np.arange(40), bins] = 1
    positives, negatives = placed * labels[:, np.newaxis], placed * ~labels[:, np.newaxis]
    assert expected_precision(positives, negatives) == pytest.approx(average_precision(labels, bins))
    assert expected_precision(np.zeros((1, BINS)), negatives) == 0.0
