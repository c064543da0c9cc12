"""Resampling and random fields against values known by hand."""

import numpy as np

from prostafed.simulations.phantom.fields import covering_axis, draw_field, make_axis, resample


def test_axis_is_centred():
    assert make_axis(4, 2.0, 1.0).tolist() == [-2.0, 0.0, 2.0, 4.0]


def test_covering_axis_reaches_beyond_its_target():
    target = make_axis(5, 1.5)
    for phase in (0.0, 0.99):
        axis = covering_axis(target, 0.7, 2.0, phase)
        assert axis[0] <= target[0] - 2.0 + 1e-6
        assert axis[-1] >= target[-1] + 2.0 - 0.7
        np.testing.assert_allclose(np.diff(axis), 0.7, rtol=1e-4)


def test_resampling_a_linear_volume_gives_its_values():
    source = (make_axis(9, 3.0), make_axis(40, 0.5), make_axis(30, 0.7))
    target = (make_axis(5, 3.6), make_axis(9, 1.5), make_axis(21, 0.4))
    z, y, x = (np.float32(slope) for slope in (2.0, -1.0, 0.5))
    volume = z * source[0][:, None, None] + y * source[1][None, :, None] + x * source[2][None, None, :]
    expected = z * target[0][:, None, None] + y * target[1][None, :, None] + x * target[2][None, None, :]
    np.testing.assert_allclose(resample(volume, source, target), expected, atol=1e-4)


def test_resampling_onto_its_own_grid_changes_nothing_and_beyond_it_repeats_the_edge():
    axes = (make_axis(3, 3.0), make_axis(4, 1.0), make_axis(5, 1.0))
    volume = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(resample(volume, axes, axes), volume, atol=1e-6)
    beyond = (axes[0], axes[1], np.array([9.0, 10.0], dtype=np.float32))
    np.testing.assert_allclose(resample(volume, axes, beyond)[..., 1], volume[..., -1], atol=1e-6)


def test_a_coarser_grid_averages():
    source = (make_axis(1, 1.0), make_axis(1, 1.0), make_axis(400, 0.25))
    noise = np.random.default_rng(0).normal(size=(1, 1, 400)).astype(np.float32)
    coarse = resample(noise, source, (source[0], source[1], make_axis(40, 2.0)))
    # Eight points halfway between samples: 7 weights of 1/8, two of 1/16.
    assert abs(coarse.std() - np.sqrt(7 / 64 + 2 / 256)) < 0.08


def test_field_has_unit_variance_and_is_smooth():
    axis = make_axis(60, 1.0)
    field = draw_field(np.random.default_rng(1), (30.0, 30.0, 30.0), (4.0, 4.0, 4.0)).sample((axis, axis, axis))
    assert abs(field.mean()) < 0.05
    assert abs(field.std() - 1) < 0.08
    assert np.abs(np.diff(field, axis=2)).mean() < 0.3
