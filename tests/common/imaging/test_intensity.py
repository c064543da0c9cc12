import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prostafed.common.imaging.intensity import normalise


def test_by_hand():
    # 1, 2, ..., 201: percentile 0.5 is 2, percentile 99.5 is 200.
    volume = np.arange(1, 202, dtype=np.float32)
    clipped = np.clip(np.arange(1, 202), 2, 200)
    expected = (clipped - 101) / np.sqrt(((clipped - 101.0) ** 2).mean())
    np.testing.assert_allclose(normalise(volume), expected, rtol=1e-5)
    assert normalise(volume).dtype == np.float32


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-8, 65504.0])
def test_a_constant_becomes_zeros(value):
    assert not normalise(np.full((7, 33, 31), value, np.float32)).any()


def test_a_constant_but_for_outliers_becomes_zeros():
    volume = np.full(1000, 5.0, np.float32)
    volume[:2] = 1e6
    assert not normalise(volume).any()


def test_one_bright_voxel_does_not_darken_the_rest():
    volume = np.random.default_rng(0).normal(100, 10, 10_000).astype(np.float32)
    bright = volume.copy()
    bright[0] = 1e6
    np.testing.assert_allclose(normalise(bright)[1:], normalise(volume)[1:], atol=0.01)


def test_a_small_contrast_on_a_large_offset_is_centred_all_the_same():
    volume = np.full(300, 256.0, np.float32)
    volume[:2] = (255.0, 0.0)
    normalised = normalise(volume)
    assert normalised.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert normalised.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)


@given(
    arrays(np.int16, 300, elements=st.integers(-1000, 1000)),
    st.floats(0.01, 100),
    st.floats(-1000, 1000),
)
def test_scale_and_offset_of_the_scanner_do_not_matter(volume, scale, offset):
    plain = normalise(volume.astype(np.float32))
    scaled = normalise((volume * scale + offset).astype(np.float32))
    low, high = np.percentile(volume, (0.5, 99.5))  # what lies outside is clipped away, however large
    if high - low > 5 and volume.clip(low, high).std() > 1:
        np.testing.assert_allclose(scaled, plain, atol=0.05)
        assert plain.mean() == pytest.approx(0, abs=1e-4)
        assert plain.std() == pytest.approx(1, abs=1e-4)
