"""Which series becomes what: on series without files, whose pixels are a number each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images import b_images, sources, stack
from prostafed.client.ingest.images.b_images import fit_series
from prostafed.client.ingest.images.candidates import CHOSEN, rank_series
from prostafed.client.ingest.images.minima import list_shortfalls
from prostafed.client.ingest.images.sources import Source, find_sources
from prostafed.client.ingest.records import Header, Kind, Plane, Series, Slice

ALL = ("t2w", "adc", "hbv")
HEADER = Header(
    *("MR", "", "", (), 1, "", 100.0, 5000.0, 3.0), contrast=False, time_points=1, quantity="", lossy=False,
    burned_in=False, body_part="", patient_sex="M",
)  # fmt: skip
S0, ADC = 1000.0, 1200.0


def series(
    kind: Kind,
    value: float = 500.0,
    count: int = 5,
    b: float | None = None,
    plane: Plane = "axial",
    pixel_mm: float = 0.5,
    reason: str = "",
    uid: str = "",
    directional: bool = False,
    start_mm: float = 0.0,
) -> Series:
    """Slices 3 mm apart whose pixels all are `value`: it travels as their intercept."""
    one = Slice(Path("x"), 0, "1", None, 2, 2, None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (pixel_mm, pixel_mm), b,
                directional, 1.0, value)  # fmt: skip
    slices = tuple(
        replace(one, position_mm=(0.0, 0.0, start_mm + 3.0 * z), instance_number=z + 1) for z in range(count)
    )
    return Series(uid or f"{kind}{value}{b}{count}", 1, HEADER, slices, kind, plane, reason)


def dwi(*b_values: float, uid: str = "dwi", gain: float = 1.0, **values: object) -> Series:
    parts = [series("dwi", gain * S0 * np.exp(-b * ADC * 1e-6), b=b, **values) for b in b_values]  # type: ignore[arg-type]
    slices = tuple(each for part in parts for each in part.slices)
    numbered = tuple(replace(each, instance_number=n) for n, each in enumerate(slices, 1))
    return replace(parts[0], uid=uid, slices=numbered)


@pytest.fixture(autouse=True)
def _pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(slices: list[Slice], severity: str) -> np.ndarray:
        return np.stack([np.full((each.rows, each.columns), each.intercept, np.float32) for each in slices])

    monkeypatch.setattr(stack, "read_pixels", read)


Found = tuple[dict[str, Source], list[tuple[str, str]]]


def find(*these: Series, wanted: tuple[str, ...] = ALL, allow: tuple[str, ...] = ()) -> Found:
    said: list[tuple[str, str]] = []
    return find_sources(these, wanted, allow, lambda error, of: said.append((error.code, error.severity))), said


def value(source: Source) -> float:
    return float(sitk.GetArrayViewFromImage(source.image).mean())


T2W, VENDOR, HIGH = series("t2w"), series("adc", ADC), series("dwi", 186.0, b=1400)


def test_a_complete_study() -> None:
    found, said = find(T2W, VENDOR, HIGH)
    assert {name: each.text for name, each in found.items()} == {
        "t2w": "acquired",
        "adc": "vendor map",
        "hbv": "acquired b=1400",
    }
    assert not said
    assert (found["hbv"].b_value_s_per_mm2, found["adc"].series) == (1400, (VENDOR,))


def test_the_t2w_is_axial_with_most_slices_then_finest() -> None:
    few, coarse, fine = series("t2w", 1, 4), series("t2w", 2, 5, pixel_mm=0.6), series("t2w", 3, 5)
    found, said = find(few, coarse, fine, series("t2w", 4, 9, plane="sagittal"), wanted=("t2w",))
    assert value(found["t2w"]) == 3
    assert said == [("SEVERAL_T2_AX", "W")]


def test_what_only_looks_like_t2w_comes_last() -> None:
    guess = series("t2w", 1, 9, reason="echo and repetition time fit T2, no name says so: check")
    found, _ = find(guess, series("t2w", 2, 5), wanted=("t2w",))
    assert value(found["t2w"]) == 2


def broken(of: Series) -> Series:
    return replace(of, uid="broken", slices=of.slices[:2] + of.slices[3:])


def test_a_t2w_that_can_be_used_stands_in_for_a_broken_one() -> None:
    found, said = find(broken(series("t2w", 1, 9)), series("t2w", 2, 5), wanted=("t2w",))
    assert value(found["t2w"]) == 2
    assert said == [("MISSING_SLICE", "S"), ("SEVERAL_T2_AX", "W")]


def test_a_broken_t2w_alone_refuses_the_study() -> None:
    assert find(broken(T2W), wanted=("t2w",)) == ({}, [("MISSING_SLICE", "F")])


def test_no_axial_t2w_refuses_the_study() -> None:
    for other in (series("t2w", plane="sagittal"), series("t2w", plane="oblique"), series("other"), VENDOR):
        assert find(other, wanted=("t2w",)) == ({}, [("NO_T2", "F")])


def test_a_t2w_whose_last_slice_may_be_missing_is_a_warning() -> None:
    late = replace(T2W, slices=tuple(replace(each, instance_number=each.instance_number + 1) for each in T2W.slices))
    found, said = find(late, wanted=("t2w",))
    assert "t2w" in found
    assert said == [("MISSING_SLICE", "W")]


def test_a_map_of_unknown_unit_is_fitted_instead() -> None:
    found, said = find(T2W, series("adc", 17.0), dwi(50, 400, 800), HIGH)
    assert said == [("ADC_UNITS", "S")]
    assert found["adc"].text == "fitted b=50,400,800"
    assert found["adc"].fitted_to_s_per_mm2 == (50, 400, 800)
    assert value(found["adc"]) == pytest.approx(ADC, abs=0.1)


def test_a_broken_map_is_fitted_instead() -> None:
    found, said = find(T2W, broken(VENDOR), dwi(50, 400, 800), HIGH)
    assert (said, found["adc"].text) == ([("MISSING_SLICE", "S")], "fitted b=50,400,800")


@pytest.mark.parametrize("named", [{"words": "ep2d adc"}, {"image_type": ("DERIVED", "ADC")}])
def test_a_coloured_map_is_fitted_instead(named: dict[str, object]) -> None:
    coloured = replace(series("reject"), header=replace(HEADER, samples_per_pixel=3, **named))  # type: ignore[arg-type]
    found, said = find(T2W, coloured, dwi(50, 400, 800), HIGH)
    assert (said, found["adc"].text) == ([("COLOUR_SKIPPED", "W")], "fitted b=50,400,800")
    assert find(T2W, coloured, VENDOR, HIGH)[1] == []


def test_the_high_b_is_acquired_else_calculated_else_computed() -> None:
    low, calculated = dwi(50, 400, 800), series("hbv_calc", 77.0, b=1600)
    high = dwi(1200, 2000, uid="high")
    assert find(T2W, VENDOR, low, calculated, high)[0]["hbv"].text == "acquired b=1200"
    found = find(T2W, VENDOR, low, calculated)[0]["hbv"]
    assert (found.text, found.b_value_s_per_mm2, value(found)) == ("scanner-calculated b=1600", 1600, 77)
    assert find(T2W, VENDOR, low, series("hbv_calc", 77.0))[0]["hbv"].text == "scanner-calculated"
    found = find(T2W, VENDOR, low)[0]["hbv"]
    assert (found.text, found.b_value_s_per_mm2) == ("computed b=1400 from b=50,400,800", 1400)
    assert value(found) == pytest.approx(S0 * np.exp(-1.4 * 1.2), rel=1e-3)


def test_an_acquired_high_b_that_is_broken_is_left_out() -> None:
    found, said = find(T2W, VENDOR, broken(HIGH), series("hbv_calc", 77.0, b=1600))
    assert (said, found["hbv"].text) == ([("MISSING_SLICE", "S")], "scanner-calculated b=1600")


def test_a_calculated_series_of_several_b_values_gives_the_nearest() -> None:
    low, high = series("hbv_calc", 5.0, b=1000), series("hbv_calc", 6.0, b=1500)
    found, _ = find(T2W, VENDOR, replace(low, slices=low.slices + high.slices))
    assert (found["hbv"].b_value_s_per_mm2, value(found["hbv"])) == (1500, 6)


def test_b_values_spread_over_series_of_one_grid_are_combined() -> None:
    found, said = find(T2W, HIGH, dwi(50, uid="a"), dwi(400, uid="b"), dwi(800, uid="c"))
    assert (said, found["adc"].text) == ([], "fitted b=50,400,800")
    assert {each.uid for each in found["adc"].series} == {"a", "b", "c"}
    assert value(found["adc"]) == pytest.approx(ADC, abs=0.1)


def test_b_values_on_other_grids_are_not_combined() -> None:
    _, said = find(T2W, HIGH, dwi(50, uid="a"), dwi(800, uid="b", pixel_mm=0.7))
    assert said == [("MIXED_DIFFUSION", "S"), ("NO_ADC", "F")]
    found, _ = find(T2W, HIGH, dwi(50, 400, 800, uid="a"), dwi(0, 100, 500, 900, uid="b", pixel_mm=0.7))
    assert found["adc"].text == "fitted b=100,500,900"


def changed(of: Series, **values: object) -> Series:
    return replace(of, slices=tuple(replace(each, **values) for each in of.slices))  # type: ignore[arg-type]


def joined(*these: Series) -> Series:
    return replace(these[0], slices=tuple(each for of in these for each in of.slices))


TIMES = {"echo_time_ms": 68.0, "repetition_time_ms": 3000.0}
OTHERS = {
    "echo time": {"echo_time_ms": 95.0},
    "repetition time": {"repetition_time_ms": 5000.0},
    "place": {},
}


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_only_images_of_one_echo_and_repetition_time_and_place_are_fitted(what: str, one_series: bool) -> None:
    rest = changed(dwi(50, 400, uid="a"), **TIMES)
    high = changed(dwi(800, uid="b", gain=0.8, start_mm=1.0 if what == "place" else 0.0), **TIMES | OTHERS[what])
    these = [joined(rest, high)] if one_series else [rest, high]
    text: list[str] = []
    found = find_sources([T2W, *these], ALL, (), lambda error, of: text.append(f"{error.code} {error.text}"))
    assert list(found) == ["t2w"]
    assert [each.partition(" ")[0] for each in text] == ["MIXED_DIFFUSION", "NO_ADC", "NO_HBV"]
    assert f"found b=800 of another {what} than b=50,400" in text[0]


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("what", OTHERS)
def test_the_images_that_can_stand_alone_are_fitted_and_high_b_computed_from_them(what: str, one_series: bool) -> None:
    rest = changed(dwi(50, 800, uid="a"), **TIMES)
    alien = changed(dwi(400, uid="b", gain=0.9, start_mm=1.0 if what == "place" else 0.0), **TIMES | OTHERS[what])
    found, said = find(T2W, *([joined(alien, rest)] if one_series else [alien, rest]))
    assert said == [("MIXED_DIFFUSION", "S")]
    assert (found["adc"].text, found["hbv"].text) == ("fitted b=50,800", "computed b=1400 from b=50,800")
    assert value(found["adc"]) == pytest.approx(ADC, abs=0.1)
    assert value(found["hbv"]) == pytest.approx(S0 * np.exp(-1.4 * 1.2), rel=1e-3)


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_repetition_time_that_a_trigger_makes_vary_divides_no_series(repeats: int, one_series: bool) -> None:
    taken = changed(joined(*[dwi(50, 400, 800) for _ in range(repeats)]), **TIMES)
    jitter = [1.0, 1.04, 1.02, 1.0, 1.02, 1.04, 1.02]  # goes on through places, directions and b-values
    slices = [
        replace(each, instance_number=n, repetition_time_ms=3000 * jitter[n % 7]) for n, each in enumerate(taken.slices)
    ]
    of_b = [
        replace(taken, slices=tuple(each for each in slices if each.b_value_s_per_mm2 == b)) for b in (50, 400, 800)
    ]
    found, said = find(T2W, *([joined(*of_b)] if one_series else of_b))
    assert (said, found["adc"].text) == ([], "fitted b=50,400,800")


def test_of_sets_that_can_stand_alone_the_one_with_most_b_values_is_fitted() -> None:
    few = changed(dwi(0, 800, uid="a", count=9), **TIMES)
    many = changed(dwi(0, 500, 900, uid="b", gain=0.7), **TIMES | {"echo_time_ms": 95.0})
    for these in ([few, many], [many, few], [joined(few, many)]):
        found, said = find(T2W, HIGH, *these)
        assert (found["adc"].text, said) == ("fitted b=0,500,900", [("MIXED_DIFFUSION", "S")])
    repeated = changed(dwi(0, 500, uid="b", gain=0.7), **TIMES | {"echo_time_ms": 95.0})
    assert find(T2W, HIGH, changed(dwi(0, 500, 900), **TIMES), repeated)[1] == [], "nothing is lost"


def test_repeats_of_high_b_at_another_echo_time_are_not_joined() -> None:
    early = changed(series("dwi", 200.0, b=1400, count=6), **TIMES)
    late = changed(series("dwi", 150.0, b=1400), **TIMES | {"echo_time_ms": 95.0})
    found, said = find(T2W, VENDOR, joined(late, early))
    assert (value(found["hbv"]), said) == (200, [])


@pytest.mark.parametrize(("short", "others"), [(50, "400,800"), (400, "50,800"), (800, "")])
@pytest.mark.parametrize("cut", [slice(3), slice(2, None)])
def test_a_b_value_that_was_interrupted_is_left_out(short: float, others: str, cut: slice) -> None:
    parts = [dwi(b) for b in (50, 400, 800)]
    whole = joined(
        *(replace(of, slices=of.slices[cut]) if of.slices[0].b_value_s_per_mm2 == short else of for of in parts)
    )
    found, said = find(T2W, HIGH, whole)
    if others:
        assert (said, found["adc"].text) == ([("MISSING_SLICE", "S")], f"fitted b={others}")
        assert found["adc"].image.GetDepth() == 5
    else:
        assert (said, list(found)) == ([("MISSING_SLICE", "S"), ("NO_ADC", "F")], ["t2w", "hbv"])


def test_a_high_b_that_was_interrupted_is_used_where_nothing_stands_in() -> None:
    cut = replace(HIGH, slices=HIGH.slices[:3])
    computed = find(T2W, VENDOR, joined(dwi(50, 800), cut))
    assert (computed[0]["hbv"].text, computed[1]) == ("computed b=1400 from b=50,800", [("MISSING_SLICE", "W")])
    acquired = find(T2W, VENDOR, joined(dwi(50), cut))
    assert (acquired[0]["hbv"].text, acquired[1]) == ("acquired b=1400", [("MISSING_SLICE", "W")])
    other = find(T2W, VENDOR, joined(dwi(50, 2000), cut))
    assert (other[0]["hbv"].text, other[1]) == ("acquired b=2000", [("MISSING_SLICE", "W")])


def test_images_without_a_b_value_beside_others_are_said() -> None:
    found, said = find(T2W, HIGH, joined(dwi(50, 800), dwi(50, 400), series("dwi", 700.0)))
    assert (found["adc"].text, said) == ("fitted b=50,400,800", [("NO_BVALUE", "S")])


def test_another_frame_of_reference_is_a_warning() -> None:
    here, there = {"frame_of_reference": "1.2"}, {"frame_of_reference": "1.3"}
    t2w, low = changed(T2W, **here), dwi(50, 800)
    assert find(t2w, changed(VENDOR, **here), changed(HIGH, **here))[1] == []
    found, said = find(t2w, changed(VENDOR, **there), changed(HIGH, **here))
    assert (list(found), said) == (["t2w", "adc", "hbv"], [("FRAME_OF_REFERENCE", "W")])
    assert find(t2w, changed(low, **there))[1] == [("FRAME_OF_REFERENCE", "W")] * 2, "of what is fitted, too"
    assert find(t2w, VENDOR, HIGH)[1] == find(T2W, changed(VENDOR, **there), HIGH)[1] == [], "nobody tells"


def test_series_of_another_gain_are_not_combined() -> None:
    found, said = find(T2W, HIGH, dwi(50, 800, uid="a"), dwi(50, 1000, uid="b", gain=3.0))
    assert said == [("B_VALUES_WRONG", "S")]
    assert value(found["adc"]) == pytest.approx(ADC, abs=0.1)


def test_images_that_all_claim_one_b_value_are_skipped() -> None:
    wrong = replace(
        dwi(50, 400, 800), slices=tuple(replace(s, b_value_s_per_mm2=800.0) for s in dwi(50, 400, 800).slices)
    )
    assert find(T2W, HIGH, wrong)[1] == [("B_VALUES_WRONG", "S"), ("NO_ADC", "F")]


def test_directions_may_differ_in_signal_and_are_joined() -> None:
    parts = [series("dwi", signal, b=800, directional=True) for signal in (300.0, 380.0, 440.0)]
    slices = dwi(0).slices + tuple(each for part in parts for each in part.slices)
    found, said = find(
        T2W, HIGH, replace(parts[0], slices=tuple(replace(s, instance_number=n) for n, s in enumerate(slices)))
    )
    expected = -np.log(np.cbrt(300 * 380 * 440) / S0) / 800 * 1e6
    assert said == []
    assert value(found["adc"]) == pytest.approx(expected, abs=0.1)


def test_a_b_value_with_a_hole_is_left_out() -> None:
    slices = dwi(50, 400, 800).slices
    found, said = find(T2W, HIGH, replace(dwi(50), slices=slices[:7] + slices[8:]))
    assert (said, found["adc"].text) == ([("MISSING_SLICE", "S")], "fitted b=50,800")


def test_series_without_b_values_are_said() -> None:
    assert find(T2W, series("dwi"), HIGH)[1] == [("NO_BVALUE", "S"), ("NO_ADC", "F")]


def test_what_is_missing_is_said_and_warned_of_where_it_is_allowed() -> None:
    assert find(T2W)[1] == [("NO_ADC", "F"), ("NO_HBV", "F")]
    assert find(T2W, dwi(50))[1] == [("NO_ADC", "F"), ("NO_HBV", "F")]
    assert find(T2W, dwi(50), allow=("adc", "hbv"))[1] == [("NO_ADC", "W"), ("NO_HBV", "W")]
    assert find(T2W, wanted=("t2w",))[1] == []


def test_a_missing_map_says_which_b_values_there_are() -> None:
    said: list[str] = []
    find_sources([T2W, dwi(50)], ALL, (), lambda error, of: said.append(error.text))
    assert all("have b=[50]" in text for text in said)


def test_what_a_person_chose_is_used() -> None:
    chosen = series("t2w", 1, 4, plane="oblique", reason=CHOSEN)
    found, said = find(series("t2w", 2, 9), chosen, wanted=("t2w",))
    assert (value(found["t2w"]), said) == (1, [])
    found, _ = find(T2W, VENDOR, HIGH, series("hbv_calc", 9.0, reason=CHOSEN))
    assert value(found["hbv"]) == 9


def test_the_rank_does_not_depend_on_the_order_of_files() -> None:
    these = [series("dwi", b=50, uid=str(n), count=4 + n % 3, directional=n % 2 == 0) for n in range(6)]
    ranked = [each.uid for each in rank_series(these, "dwi")]
    assert ranked == [each.uid for each in rank_series(these[::-1], "dwi")]
    assert [int(uid) % 2 for uid in ranked] == [1, 1, 1, 0, 0, 0]


def test_fitting_alone_reports_to_whoever_asks() -> None:
    said: list[tuple[SourceError, Series | None]] = []
    nameless = series("dwi")
    assert fit_series([nameless], lambda error, of: said.append((error, of))) is None
    assert said[0][1] is nameless
    assert b_images.fit_series is sources.fit_series


# The minima of PI-RADS


def shortfalls(*these: Series, thickness_mm: float = 3.0) -> str:
    headers = [replace(each, header=replace(each.header, slice_thickness_mm=thickness_mm)) for each in these]
    found, _ = find(*headers, wanted=ALL, allow=ALL)
    return " ".join(list_shortfalls(found, headers))


def test_a_study_at_the_minima_falls_short_of_nothing() -> None:
    good = series("t2w", pixel_mm=0.4), replace(VENDOR), series("dwi", 186.0, b=1400, pixel_mm=2.5), dwi(50, 800)
    assert shortfalls(*good) == ""


@pytest.mark.parametrize(
    ("these", "says"),
    [
        ((series("t2w", pixel_mm=0.5),), "expected T2W pixels of at most 0.7 x 0.4 mm, found 0.50 x 0.50 mm."),
        ((series("dwi", 186.0, b=1400, pixel_mm=2.6),), "found 3.00 mm and 2.60 mm"),
        ((series("hbv_calc", 186.0, b=1000),), "expected a high b of at least 1400 s/mm2, found 1000."),
        ((dwi(50, 400),), "expected b-values of 50-100 and of 800-1000 s/mm2, found 50, 400."),
    ],
)
def test_what_falls_short_is_said(these: tuple[Series, ...], says: str) -> None:
    assert says in shortfalls(*these)


def test_thick_slices_and_gaps_fall_short() -> None:
    fine = series("t2w", pixel_mm=0.4)
    assert shortfalls(fine) == ""
    assert "found 2.50 mm every 3.00 mm" in shortfalls(fine, thickness_mm=2.5)
    assert "found 3.50 mm every 3.00 mm" in shortfalls(fine, thickness_mm=3.5)  # they overlap
