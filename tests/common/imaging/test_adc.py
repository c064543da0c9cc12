import numpy as np
import pytest

from prostafed.common.imaging.adc import choose_fit_b_values, compute_high_b, fit_adc

ADC = np.array([700.0, 1300.0, 1700.0], np.float32).reshape(1, 1, 3)  # 1e-6 mm2/s: tumour, healthy, peripheral zone
S0 = np.array([900.0, 1200.0, 400.0], np.float32).reshape(1, 1, 3)


def _signals(b_values, adc=ADC, s0=S0):
    return np.stack([s0 * np.exp(-b * adc * 1e-6) for b in b_values]).astype(np.float32)


@pytest.mark.parametrize("b_values", [(0, 1000), (50, 400, 800), (100, 600, 1000), (0, 500), (800, 50, 400)])
def test_noise_free_signals_give_the_exact_adc_and_s0(b_values):
    adc, s0 = fit_adc(_signals(b_values), b_values)
    np.testing.assert_allclose(adc, ADC, atol=0.1)
    np.testing.assert_allclose(s0, S0, rtol=1e-4)
    assert adc.dtype == s0.dtype == np.float32


def test_noise_leaves_the_mean_within_20():
    rng = np.random.default_rng(0)
    clean = _signals((50, 400, 800), np.repeat(ADC, 4000, axis=1), np.full((1, 4000, 3), 1000.0))
    noisy = np.hypot(clean + rng.normal(0, 25, clean.shape), rng.normal(0, 25, clean.shape)).astype(np.float32)
    adc, _ = fit_adc(noisy, (50, 400, 800))
    np.testing.assert_allclose(adc.mean(axis=1).ravel(), [700, 1300, 1700], atol=20)


def test_a_b_value_above_1000_is_not_used():
    signals = _signals((50, 800, 1400))
    signals[2] = 500.0  # a noise floor
    np.testing.assert_allclose(fit_adc(signals, (50, 800, 1400))[0], ADC, atol=0.1)


def test_perfusion_below_b_50_is_not_used_where_50_to_100_exists():
    signals = _signals((0, 50, 800))
    signals[0] *= 1.5
    np.testing.assert_allclose(fit_adc(signals, (0, 50, 800))[0], ADC, atol=0.1)
    assert np.abs(fit_adc(signals[[0, 2]], (0, 800))[0] - ADC).min() > 100  # nothing better exists


def test_adc_is_clipped_and_dark_voxels_are_kept():
    signals = np.array([[100.0, 100, 0, 1], [1e-6, 200, 0, 0.5]], np.float32).reshape(2, 1, 1, 4)
    adc, s0 = fit_adc(signals, (0, 1000))
    np.testing.assert_allclose(adc.ravel(), [4000, 0, 0, 1e3 * np.log(2)], rtol=1e-5, atol=1e-6)
    assert np.isfinite(s0).all()


@pytest.mark.parametrize("b_values", [(50,), (50, 400), (0, 100, 450), (800, 1400), (1400, 2000), ()])
def test_too_small_a_span_is_refused(b_values):
    with pytest.raises(ValueError, match="span at least 400"):
        fit_adc(np.ones((len(b_values), 1, 1, 1), np.float32), b_values)


def test_a_volume_per_b_value_is_needed():
    with pytest.raises(ValueError, match="found 3 and 2"):
        fit_adc(np.ones((3, 1, 1, 1), np.float32), (0, 800))


def test_high_b_continues_the_decay():
    found = compute_high_b(S0, ADC, 1400.0)
    np.testing.assert_allclose(found, _signals((1400,))[0], rtol=1e-5)
    np.testing.assert_allclose(compute_high_b(S0, ADC, 0.0), S0)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("b_values", "used"), [((1400, 0, 50, 800), (50, 800)), ((0, 800, 1001), (0, 800)), ((0, 101), (0, 101)), ((), ())]
)
def test_the_b_values_a_fit_uses_can_be_asked_for(b_values, used):
    assert choose_fit_b_values(b_values) == used
