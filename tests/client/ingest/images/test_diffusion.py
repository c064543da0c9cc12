from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.diffusion import (
    check_signals,
    compute_high_b_image,
    convert_map,
    fit_map,
    join_repeats,
    rank_high_b,
    split_b_values,
    split_repeats,
)
from prostafed.client.ingest.records import Slice

TRUTH = (700.0, 1300.0, 1700.0)  # 1e-6 mm2/s


def image(values: object, origin: tuple[float, ...] = (1, 2, 3)) -> sitk.Image:
    made = sitk.GetImageFromArray(np.asarray(values, dtype=np.float32))
    made.SetOrigin(origin)
    made.SetSpacing((2, 2, 3))
    return made


def voxels(made: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(made)


def make(b: float | None, z: float = 0.0, number: int = 1, directional: bool = False) -> Slice:
    return Slice(Path("x"), 0, "1", number, 2, 2, (0, 0, z), None, None, b, directional, 1.0, 0.0)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6, 10.0])
def test_the_unit_of_a_map_is_found_by_its_positive_median(unit: float) -> None:
    values = np.array([[[0, 0, -5, *TRUTH, 900, 1200]]])
    converted = convert_map(image(values * unit))
    assert voxels(converted) == pytest.approx(np.maximum(values, 0), rel=1e-5)
    assert converted.GetOrigin() == (1, 2, 3)


@pytest.mark.parametrize(
    ("median", "factor"), [(300, 1), (3500, 1), (0.3, 1e3), (3.5, 1e3), (3e-4, 1e6), (3.4e-3, 1e6), (3.4e4, 0.1)]
)
def test_the_ranges_of_units(median: float, factor: float) -> None:
    assert voxels(convert_map(image([[[median]]]))).item() == pytest.approx(median * factor, rel=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6, 10.0])
def test_a_map_is_clipped_as_the_fit_is(unit: float) -> None:
    noisy = np.array([[[-900, -1, *TRUTH, 4000, 4001, 65535]]])
    assert voxels(convert_map(image(noisy * unit))) == pytest.approx(np.clip(noisy, 0, 4000), rel=1e-5)


def test_what_is_not_finite_stays_to_be_found() -> None:
    converted = voxels(convert_map(image([[[np.inf, np.nan, *TRUTH]]])))
    assert np.isinf(converted[0, 0, 0])
    assert np.isnan(converted[0, 0, 1])


def test_a_map_that_is_mostly_negative_is_refused_not_clipped() -> None:
    assert voxels(convert_map(image([[[-1000, -900, 700]]]))).tolist() == [[[0, 0, 700]]]
    assert voxels(convert_map(image([[[-1, -1, -1, -1, 700]]]))).tolist() == [[[0, 0, 0, 0, 700]]], "as air is written"
    with pytest.raises(SourceError, match="found 67% of them negative") as caught:
        convert_map(image([[[-1000, -900, -800, 700]]]))
    assert (caught.value.code, caught.value.severity) == ("ADC_UNITS", "S")


def test_air_does_not_count() -> None:
    mostly_air = np.zeros((1, 10, 10))
    mostly_air[0, 0] = 1.2
    assert voxels(convert_map(image(mostly_air))).max() == pytest.approx(1200)


@pytest.mark.parametrize("median", [0.0, -5.0, 17.0, 4e4, 0.05, 2e-4, 299.0])
def test_a_map_of_no_unit_is_skipped(median: float) -> None:
    with pytest.raises(SourceError, match="ADC_UNITS") as caught:
        convert_map(image([[[median]]]))
    assert caught.value.severity == "S"


def test_slices_are_split_by_b_value_and_those_without_left_out() -> None:
    slices = [make(800), make(50), make(None), make(800)]
    assert split_b_values(slices) == {50: (slices[1],), 800: (slices[0], slices[3])}
    assert list(split_b_values(slices)) == [50, 800]


def test_what_scanners_round_is_one_b_value() -> None:
    groups = split_b_values(make(b) for b in (0, 0.4, 799.9, 800, 804, 50, 1000, 1025, 1400, 1500))
    assert {b: len(of) for b, of in groups.items()} == {0: 2, 50: 1, 800: 3, 1000: 1, 1025: 1, 1400: 1, 1500: 1}


def test_trace_images_make_single_directions_give_way() -> None:
    trace, direction = make(800), make(800, directional=True)
    assert split_b_values([direction, trace, make(50, directional=True)])[800] == (trace,)
    assert len(split_b_values([direction, direction])[800]) == 2


def test_repeats_are_stacks_with_every_position_once() -> None:
    slices = [make(800, z, number) for number, z in ((4, 0), (1, 0), (2, 3), (3, 3))]
    stacks = split_repeats(slices)
    assert [[each.instance_number for each in stack] for stack in stacks] == [[1, 2], [4, 3]]


def test_a_position_with_fewer_directions_is_a_missing_slice() -> None:
    with pytest.raises(SourceError, match=r"found 1 to 2 at b=800") as caught:
        split_repeats([make(800, 0), make(800, 0), make(800, 3)])
    assert (caught.value.code, caught.value.severity) == ("MISSING_SLICE", "S")


def test_slices_without_a_position_are_left_to_stacking() -> None:
    slices = [replace(make(800), position_mm=None), make(800)]
    assert split_repeats(slices) == [tuple(slices)]


def test_directions_are_joined_by_their_geometric_mean() -> None:
    directions = [np.full((1, 2, 2), value, np.float32) for value in (100, 104, 108.16)]
    assert join_repeats(directions) == pytest.approx(np.full((1, 2, 2), 104), rel=1e-5)
    assert join_repeats(directions[:1]) is directions[0]


def test_the_trace_of_three_directions_has_their_mean_adc() -> None:
    signals = [np.full((1, 1, 1), 1000 * np.exp(-0.8 * d), np.float32) for d in (1.0, 1.1, 1.2)]
    assert -np.log(join_repeats(signals).item() / 1000) / 0.8 == pytest.approx(1.1, rel=1e-5)


@pytest.mark.parametrize(("second", "fits"), [(114.9, True), (115.1, False), (86.9, False)])
def test_images_of_one_b_value_may_differ_by_15_percent(second: float, fits: bool) -> None:
    means = [(800.0, 100.0), (800.0, second)]
    if fits:
        check_signals(means)
    else:
        with pytest.raises(SourceError, match=r"expected alike signals in the 2 images of b=800, .*15%"):
            check_signals(means)


@pytest.mark.parametrize(("after", "fits"), [(90.0, True), (114.9, True), (115.1, False)])
def test_signal_must_not_rise_with_the_b_value(after: float, fits: bool) -> None:
    means = [(800.0, after), (50.0, 100.0)]
    if fits:
        check_signals(means)
    else:
        with pytest.raises(SourceError, match="expected less signal at b=800 than at b=50, found 15% more"):
            check_signals(means)


def test_images_without_signal_are_no_division_by_zero() -> None:
    check_signals([(50.0, 0.0), (800.0, 0.0)])
    with pytest.raises(SourceError, match="B_VALUES_WRONG"):
        check_signals([(50.0, 0.0), (800.0, 5.0)])


@pytest.mark.parametrize(
    ("b_values", "used"),
    [
        ((0, 50, 400, 800, 1400), (50, 400, 800)),
        ((0, 800), (0, 800)),
        ((100, 1000, 1500), (100, 1000)),
        ((0, 400), (0, 400)),
    ],
)
def test_the_fit_gives_back_what_signals_were_made_of(b_values: tuple[float, ...], used: tuple[float, ...]) -> None:
    adc, s0 = np.array([[TRUTH]]), 900.0
    fit = fit_map({b: image(s0 * np.exp(-b * adc * 1e-6)) for b in b_values})
    assert fit is not None
    assert fit.b_values_s_per_mm2 == used
    assert voxels(fit.adc) == pytest.approx(adc, abs=0.5)
    assert voxels(fit.s0) == pytest.approx(s0, rel=1e-3)
    assert fit.adc.GetOrigin() == (1, 2, 3)
    assert voxels(compute_high_b_image(fit)) == pytest.approx(s0 * np.exp(-1400e-6 * adc), rel=2e-3)


@pytest.mark.parametrize("b_values", [(), (50,), (50, 400), (0, 1400), (50, 449)])
def test_b_values_that_allow_no_fit(b_values: tuple[float, ...]) -> None:
    assert fit_map({b: image([[[500.0]]]) for b in b_values}) is None


def test_high_b_is_the_nearest_to_1400_the_higher_of_two() -> None:
    assert sorted((1200.0, 2000.0, 1500.0, 1300.0), key=rank_high_b) == [1500.0, 1300.0, 1200.0, 2000.0]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6))
def test_splitting_loses_no_slice(b_values: list[int]) -> None:
    groups = split_b_values(make(b) for b in b_values)
    assert sum(len(of) for of in groups.values()) == len(b_values)
    assert list(groups) == sorted(groups)
    for name, of in groups.items():
        assert all(abs((each.b_value_s_per_mm2 or 0) - name) <= 0.02 * name + 1.5 for each in of)
