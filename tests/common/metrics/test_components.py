import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from prostafed.common.metrics.components import grow, label_components, largest_component

FULL = np.ones((3, 3, 3))
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 9))


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        ([], 0),
        ([(0, 0, 0)], 1),
        ([(0, 0, 0), (1, 1, 1)], 1),  # a corner joins
        ([(0, 0, 0), (0, 0, 2)], 2),
        ([(0, 0, 2), (0, 1, 0)], 2),  # the end of one row does not join the start of the next
        ([(0, 2, 0), (1, 0, 0)], 2),  # nor the last row of a slice the first of the next
        ([(0, 0, 0), (0, 1, 1), (0, 0, 2)], 1),  # a V joins through its tip
    ],
)
def test_counts_by_hand(voxels: list[tuple[int, int, int]], expected: int) -> None:
    mask = np.zeros((2, 3, 3), dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    assert label_components(mask)[1] == expected


@settings(max_examples=60)
@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0.02, 0.9))
def test_agrees_with_scipy_label_for_label(shape: tuple[int, int, int], seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    labels, count = label_components(mask)
    expected, expected_count = ndimage.label(mask, structure=FULL)
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)


@settings(max_examples=30)
@given(SHAPES, st.integers(0, 2**32 - 1))
def test_growing_agrees_with_scipy(shape: tuple[int, int, int], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.1
    np.testing.assert_array_equal(grow(mask), ndimage.binary_dilation(mask, structure=FULL))


def test_the_largest_component_is_kept_alone() -> None:
    mask = np.zeros((2, 4, 6), dtype=bool)
    mask[0, 0, 0] = mask[0, 3, 3:] = mask[1, 1, 5] = True
    kept = largest_component(mask)
    assert np.argwhere(kept).tolist() == [[0, 3, 3], [0, 3, 4], [0, 3, 5]]
    np.testing.assert_array_equal(largest_component(kept), kept)
    assert not largest_component(np.zeros((2, 2, 2), dtype=bool)).any()
    equals = np.zeros((1, 1, 5), dtype=bool)
    equals[0, 0, [0, 4]] = True
    assert np.argwhere(largest_component(equals)).tolist() == [[0, 0, 0]], "the first of equals"
