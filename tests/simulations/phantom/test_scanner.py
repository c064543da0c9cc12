"""Scanners: ADC comes back, noise is Rician, and each effect shows in the image."""

from dataclasses import replace

import numpy as np
import pytest

from prostafed.common.imaging.adc import fit_adc
from prostafed.simulations.phantom.case import draw_study
from prostafed.simulations.phantom.fields import draw_field, make_axis
from prostafed.simulations.phantom.protocol import VENDORS, draw_protocol, resolve_scanner
from prostafed.simulations.phantom.scanner import acquire_diffusion, acquire_t2w, add_rician_noise, coil_sensitivity
from prostafed.simulations.phantom.settings import Readers, Scanner
from prostafed.simulations.phantom.shapes import Ellipsoid
from prostafed.simulations.phantom.surroundings import Part
from prostafed.simulations.phantom.tissue import Tissue, b0_signal

AXES = (make_axis(12, 3.0), make_axis(50, 1.5), make_axis(50, 1.5))
QUIET = Scanner(noise=0.0, coil_bias=0.0, distortion_mm=0.0)


def study_with_inserts(scanner):
    """A patient whose gland holds three tubes of known ADC."""
    study = draw_study(4, 1, "RUMC", scanner, Readers())
    tubes = tuple(
        Part(Tissue(90.0, 0.85, adc), Ellipsoid((0.0, 0.0, x), (40.0, 8.0, 5.0)), zone="gland")
        for adc, x in ((700.0, -14.0), (1300.0, 0.0), (1700.0, 14.0))
    )
    flat = draw_field(np.random.default_rng(0), (60.0, 110.0, 110.0), (8.0, 5.0, 5.0))
    flat = replace(flat, values=flat.values * 0)
    gland = replace(study.anatomy.gland, semi_axes=(60.0, 40.0, 50.0), tz_radius=9.0)
    anatomy = replace(study.anatomy, gland=gland, inside=tubes, lesions=(), fine=flat, coarse=flat)
    return replace(study, anatomy=anatomy)


def tube_adc(scanner, rows=slice(23, 27)):
    study = study_with_inserts(scanner)
    adc, _ = acquire_diffusion(study.anatomy, study.protocol, AXES, np.random.default_rng(0))
    columns = [int(np.abs(AXES[2] - x).argmin()) for x in (-14.0, 0.0, 14.0)]
    return [adc[3:9, rows, column - 1 : column + 2] for column in columns]


@pytest.mark.parametrize("vendor", list(VENDORS))
def test_known_adc_comes_back_without_noise(vendor):
    found = [float(tube.mean()) for tube in tube_adc(replace(QUIET, vendor=vendor))]
    assert found == pytest.approx([700, 1300, 1700], abs=20)


@pytest.mark.parametrize("vendor", list(VENDORS))
def test_known_adc_comes_back_with_noise_and_the_noise_shows(vendor):
    tubes = tube_adc(replace(QUIET, vendor=vendor, noise=1.0))
    assert [float(tube.mean()) for tube in tubes] == pytest.approx([700, 1300, 1700], abs=60)
    assert all(20 < tube.std() < 400 for tube in tubes)


def test_rician_noise():
    rng = np.random.default_rng(2)
    empty = add_rician_noise(np.zeros((20, 50, 50), dtype=np.float32), 0.3, rng)
    assert empty.mean() == pytest.approx(0.3 * np.sqrt(np.pi / 2), rel=0.01)
    assert empty.std() == pytest.approx(0.3 * np.sqrt(2 - np.pi / 2), rel=0.02)
    bright = add_rician_noise(np.full((20, 50, 50), 10.0, dtype=np.float32), 0.3, rng)
    assert bright.std() == pytest.approx(0.3, rel=0.02)


def test_high_b_is_computed_from_the_fit_or_acquired():
    computed, acquired = (
        study_with_inserts(replace(QUIET, high_b_source=source, high_b_value_s_per_mm2=1400.0))
        for source in ("computed", "acquired")
    )
    adc, first = acquire_diffusion(computed.anatomy, computed.protocol, AXES, np.random.default_rng(0))
    _, second = acquire_diffusion(acquired.anatomy, acquired.protocol, AXES, np.random.default_rng(0))
    tube = (slice(3, 9), slice(23, 27), slice(24, 26))
    s0 = b0_signal(Tissue(90.0, 0.85, 1300.0), computed.protocol.dwi_echo_ms, 1.0) * computed.protocol.scale
    expected = s0 * np.exp(-1.4 * adc[tube] / 1000)
    np.testing.assert_allclose(first[tube], expected, rtol=0.02)
    np.testing.assert_allclose(second[tube], expected, rtol=0.02)
    noisy = study_with_inserts(replace(QUIET, noise=1.0))
    images = [
        acquire_diffusion(noisy.anatomy, protocol, AXES, np.random.default_rng(0))
        for protocol in (noisy.protocol, replace(noisy.protocol, high_b_acquired=True))
    ]
    assert np.array_equal(images[0][0], images[1][0])  # the same fit
    assert not np.allclose(images[0][1], images[1][1], rtol=0.01)  # but noise of its own


def test_the_adc_is_fitted_not_painted():
    """Urine at the noise floor: Rician noise must bias the fitted ADC downwards, as it does on a scanner."""
    rng = np.random.default_rng(0)
    signals = np.stack(
        [add_rician_noise(np.full((1, 60, 60), np.exp(-b * 2.9e-3), np.float32), 0.1, rng) for b in (0, 800)]
    )
    adc, _ = fit_adc(signals, (0, 800))
    assert adc.mean() < 2900 - 100


def scan(scanner, seed=4, index=2):
    study = draw_study(seed, index, "ZGT", scanner, Readers())
    t2w = acquire_t2w(study.anatomy, study.protocol, AXES, np.random.default_rng(1))
    adc, high_b = acquire_diffusion(study.anatomy, study.protocol, AXES, np.random.default_rng(1))
    return t2w / study.protocol.scale, adc, high_b / study.protocol.scale


def test_noise_roughens_every_sequence():
    def roughness(image):
        return float(np.abs(np.diff(image[:, 15:35, 15:35], axis=2)).mean())

    for quiet, noisy in zip(scan(Scanner(noise=0.2)), scan(Scanner(noise=3.0)), strict=True):
        assert roughness(noisy) > 1.2 * roughness(quiet)


def test_field_strength_lowers_noise_and_raises_distortion():
    low, high = (
        draw_protocol(Scanner(field_strength_t=tesla), "RUMC", np.random.default_rng(0)) for tesla in (1.5, 3.0)
    )
    assert low.t2_noise == pytest.approx(2 * high.t2_noise)
    assert low.dwi_noise == pytest.approx(2 * high.dwi_noise)
    assert low.distortion_mm == pytest.approx(high.distortion_mm / 2)
    assert low.t2_factor > high.t2_factor == 1


def test_coil_bias_shades_the_image():
    even, shaded = (
        draw_protocol(Scanner(coil_bias=bias), "RUMC", np.random.default_rng(0)).bias for bias in (0.0, 0.8)
    )
    assert np.ptp(coil_sensitivity(AXES, even)) == 0
    assert np.ptp(coil_sensitivity(AXES, shaded)) > 0.05
    images = [scan(Scanner(noise=0.0, coil_bias=bias))[0] for bias in (0.0, 0.8)]
    assert np.std(images[1] / np.maximum(images[0], 1e-3)) > 0.02


def test_distortion_moves_tissue_beside_gas_only():
    study = draw_study(4, 2, "ZGT", replace(QUIET, distortion_mm=6.0), Readers())
    anatomy = replace(study.anatomy, gas=1.0)
    bent, straight = (
        acquire_diffusion(anatomy, replace(study.protocol, distortion_mm=mm), AXES, np.random.default_rng(0))[0]
        for mm in (6.0, 0.0)
    )
    change = np.abs(bent - straight).mean(axis=(0, 2))
    assert change[30:].mean() > 40
    assert change[:10].mean() < 5


def test_vendors_look_different():
    images = {vendor: scan(Scanner(vendor=vendor)) for vendor in VENDORS}
    means = [images[vendor][0][:, 15:35, 15:35].mean() for vendor in VENDORS]
    assert len({round(float(mean), 3) for mean in means}) == len(VENDORS)
    fat = (slice(None), slice(0, 5), slice(22, 28))
    assert np.mean(images["siemens"][1][fat] == 0) > 0.5 > np.mean(images["ge"][1][fat] == 0)


def test_a_vendor_alone_fills_in_the_rest_and_what_is_set_stays():
    assert resolve_scanner(Scanner(vendor="ge")).b_values_s_per_mm2 == (0.0, 800.0)
    chosen = resolve_scanner(Scanner(vendor="ge", dwi_in_plane_mm=2.5, coil_bias=0.0))
    assert (chosen.dwi_in_plane_mm, chosen.coil_bias, chosen.high_b_source) == (2.5, 0.0, "acquired")
    protocol = draw_protocol(Scanner(t2_in_plane_mm=0.7, slice_thickness_mm=4.0), "PCNN", np.random.default_rng(0))
    assert (protocol.t2_in_plane_mm, protocol.slice_mm) == (0.7, 4.0)


def test_grids_follow_the_centre():
    drawn = [draw_protocol(Scanner(), "RUMC", np.random.default_rng(seed)) for seed in range(300)]
    assert abs(np.mean([protocol.slice_mm == 3.6 for protocol in drawn]) - 407 / 761) < 0.1
    drawn = [draw_protocol(Scanner(), "PCNN", np.random.default_rng(seed)) for seed in range(300)]
    assert abs(np.mean([protocol.t2_in_plane_mm == 0.3423 for protocol in drawn]) - 224 / 327) < 0.1
    assert {draw_protocol(Scanner(), "ZGT", np.random.default_rng(0)).t2_in_plane_mm} == {0.5}
