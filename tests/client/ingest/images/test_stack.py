from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images import stack
from prostafed.client.ingest.images.stack import misses_end_slice, order_slices, stack_volume
from prostafed.client.ingest.records import Slice
from prostafed.client.ingest.scan.headers import read_studies

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)  # normal (0, -0.6, 0.8)


def place(*along: float, orientation: tuple[float, ...] = AXIAL) -> tuple[np.ndarray, np.ndarray]:
    normal = np.cross(orientation[:3], orientation[3:])
    return np.outer(along, normal) + np.array((5, 6, 7)), np.tile(orientation, (len(along), 1))


def assert_refused(code: str, positions: np.ndarray, orientations: np.ndarray, says: str = ".") -> None:
    with pytest.raises(SourceError, match=says) as caught:
        order_slices(positions, orientations, "S")
    assert (caught.value.code, caught.value.severity) == (code, "S")


def make(positions: np.ndarray, **values: object) -> list[Slice]:
    one = Slice(Path("x"), 0, "1", None, 2, 3, None, AXIAL, (0.4, 0.7), None, False, 1.0, 0.0)
    placed = [tuple(map(float, position)) for position in positions]
    return [replace(one, position_mm=at, instance_number=n, **values) for n, at in enumerate(placed, 1)]


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice's pixels are its instance number."""

    def read(slices: list[Slice], severity: str) -> np.ndarray:
        return np.stack([np.full((each.rows, each.columns), each.instance_number, np.float32) for each in slices])

    monkeypatch.setattr(stack, "read_pixels", read)


def test_slices_are_sorted_along_their_normal() -> None:
    order = order_slices(*place(6, 0, 3))
    assert (order.indices, order.spacing_mm) == ((1, 2, 0), 3.0)
    assert np.array_equal(order.axes, np.eye(3))


def test_an_oblique_stack_has_the_spacing_along_its_normal() -> None:
    order = order_slices(*place(0, 3, 6, 9, orientation=TILTED))
    assert order.spacing_mm == pytest.approx(3)
    assert np.allclose(order.axes[:, 2], (0, -0.6, 0.8))


@given(st.permutations(range(7)))
def test_the_order_of_files_does_not_matter(shuffled: list[int]) -> None:
    positions, orientations = place(*(3.0 * index for index in shuffled), orientation=TILTED)
    order = order_slices(positions, orientations)
    assert [shuffled[index] for index in order.indices] == list(range(7))


def test_a_missing_slice_is_refused_with_its_place() -> None:
    assert_refused(
        "MISSING_SLICE", *place(0, 3, 6, 12, 15), says="every 3.00 mm, found 6.00 mm between slice 3 and 4 of 5"
    )


@pytest.mark.parametrize(("gap", "fits"), [(3.15, True), (3.17, False), (2.85, True), (2.83, False)])
def test_gaps_may_differ_by_five_percent_and_a_hundredth_of_a_millimetre(gap: float, fits: bool) -> None:
    places = place(0, 3, 6, 6 + gap, 9 + gap, 12 + gap)
    if fits:
        assert order_slices(*places).spacing_mm == pytest.approx(3)
    else:
        assert_refused("MISSING_SLICE", *places)


def test_two_slices_in_one_place_are_refused() -> None:
    assert_refused("DUPLICATE_POSITION", *place(0, 3, 3, 6), says=r"slices 2 and 3 of 4 .* \(1 such pairs\)")


@pytest.mark.parametrize(("step", "fits"), [(0.12, True), (0.13, False)])
def test_a_stack_may_drift_sideways_by_half_a_millimetre(step: float, fits: bool) -> None:
    positions, orientations = place(0, 3, 6, 9, 12)
    positions[:, 0] += step * np.arange(5)  # 0.48 mm, 0.52 mm over the stack
    if fits:
        order_slices(positions, orientations)
    else:
        assert_refused("SHEARED", positions, orientations, says=r"0\.5 mm sideways")


@pytest.mark.parametrize("wrong", [(1, 0, 0, 0.1, 0.99, 0), (0.9, 0, 0, 0, 1, 0), (1, 0, 0, 1, 0, 0), (0,) * 6])
def test_axes_that_are_not_perpendicular_and_of_length_1_are_refused(wrong: tuple[float, ...]) -> None:
    assert_refused("BAD_ORIENTATION", place(0, 3, 6)[0], np.tile(np.array(wrong, dtype=float), (3, 1)))


def test_slices_must_be_parallel() -> None:
    positions, orientations = place(0, 3, 6)
    orientations[1, 4:] = np.cos(0.002), np.sin(0.002)
    assert_refused("BAD_ORIENTATION", positions, orientations, says=r"differ by 0\.002")
    orientations[1, 4:] = np.cos(0.0009), np.sin(0.0009)
    order_slices(positions, orientations)


def test_rounded_cosines_become_an_exact_frame() -> None:
    order = order_slices(*place(0, 3, 6, orientation=(0.9999, 0.0102, 0.0, -0.0100, 0.9999, 0.0003)))
    assert np.allclose(order.axes.T @ order.axes, np.eye(3), atol=1e-12)
    assert np.linalg.det(order.axes) == pytest.approx(1)


@pytest.mark.usefixtures("pixels")
def test_a_volume_carries_the_geometry() -> None:
    volume = stack_volume(make(place(6, 0, 3)[0]), "t2w")
    assert volume.GetSize() == (3, 2, 3)
    assert volume.GetSpacing() == (0.7, 0.4, 3.0)  # x: between columns, y: between rows
    assert volume.GetOrigin() == (5, 6, 7)
    assert sitk.GetArrayFromImage(volume)[:, 0, 0].tolist() == [2, 3, 1]
    assert volume.GetPixelID() == sitk.sitkFloat32


@pytest.mark.usefixtures("pixels")
@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("NO_GEOMETRY", {"position_mm": None}),
        ("NO_GEOMETRY", {"orientation": None}),
        ("NO_GEOMETRY", {"pixel_spacing_mm": None}),
        ("NO_GEOMETRY", {"pixel_spacing_mm": (0.0, 0.4)}),
        ("NOT_FINITE", {"position_mm": (0.0, float("nan"), 0.0)}),
        ("NOT_FINITE", {"position_mm": (0.0, 1e308, 0.0)}),
        ("NOT_FINITE", {"orientation": (1.0, 0.0, 0.0, 0.0, float("inf"), 0.0)}),
        ("NOT_FINITE", {"pixel_spacing_mm": (float("nan"), 0.4)}),
        ("MIXED_SIZE", {"rows": 4}),
        ("MIXED_SPACING", {"pixel_spacing_mm": (0.4, 0.71)}),
    ],
)
def test_one_wrong_header_refuses_a_t2w_and_skips_another(code: str, change: dict[str, object]) -> None:
    slices = make(place(0, 3, 6, 9)[0])
    slices[2] = replace(slices[2], **change)
    for name, severity in (("t2w", "F"), ("adc", "S")):
        with pytest.raises(SourceError) as caught:
            stack_volume(slices, name)
        assert (caught.value.code, caught.value.severity) == (code, severity)


def test_one_slice_is_no_volume() -> None:
    with pytest.raises(SourceError, match="NO_GEOMETRY: expected a stack of slices, found 1"):
        stack_volume(make(place(0)[0]), "t2w")


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [((1, 2, 3), False), ((2, 3, 4), True), ((1, 2, 4), True), ((101, 102, 103), False), ((1, 1, 4), False)],
)
def test_instance_numbers_beyond_the_count_tell_of_a_missing_end(numbers: tuple[int, ...], missing: bool) -> None:
    slices = [replace(each, instance_number=n) for each, n in zip(make(place(0, 3, 6)[0]), numbers, strict=True)]
    assert misses_end_slice(slices) == missing
    assert not misses_end_slice([replace(each, instance_number=None) for each in slices])


def test_a_classic_and_an_enhanced_series_become_the_same_volume(
    tmp_path: Path, write_series: Callable[..., list[Path]]
) -> None:
    values = np.random.default_rng(0).integers(0, 900, (5, 4, 6))
    volumes = []
    for enhanced in (False, True):
        folder = tmp_path / str(enhanced)
        write_series(folder, volume=values, enhanced=enhanced, ImageOrientationPatient=list(TILTED))
        (study,), _ = read_studies(folder)
        volumes.append(stack_volume(study.series[0].slices, "t2w"))
    for volume in volumes:
        assert np.array_equal(sitk.GetArrayFromImage(volume), values)
        assert volume.GetSpacing() == pytest.approx((0.5, 0.5, 3.0), abs=1e-5)
    assert volumes[0].GetDirection() == pytest.approx(volumes[1].GetDirection())


@pytest.mark.data
def test_the_real_study_is_the_volumes_its_public_copy_has(data_folder: Path) -> None:
    """The MHA files were made of the same DICOM by others (SimpleITK's series reader): equal to the last bit."""
    (study,), _ = read_studies(data_folder / "prostatex_dicom")
    mha = data_folder / "picai_layout" / "images" / "11373"
    for kind, name in (("t2w", "t2w"), ("adc", "adc"), ("hbv_calc", "hbv")):
        slices = next(each.slices for each in study.series if (each.kind, each.plane) == (kind, "axial"))
        volume, expected = stack_volume(slices, name), sitk.ReadImage(str(mha / f"11373_1001396_{name}.mha"))
        assert volume.GetSpacing() == pytest.approx(expected.GetSpacing(), abs=1e-6)
        assert volume.GetOrigin() == pytest.approx(expected.GetOrigin(), abs=1e-6)
        assert volume.GetDirection() == pytest.approx(expected.GetDirection(), abs=1e-9)
        assert np.array_equal(sitk.GetArrayFromImage(volume), sitk.GetArrayFromImage(expected))


@pytest.mark.data
def test_the_real_series_with_a_hole_is_refused(data_folder: Path) -> None:
    (study,), _ = read_studies(data_folder / "prostatex_dicom_missing_slice")
    with pytest.raises(SourceError, match=r"found 6\.00 mm between slice 13 and 14 of 18") as caught:
        stack_volume(study.series[0].slices, "hbv")
    assert caught.value.code == "MISSING_SLICE"


@pytest.mark.parametrize(("name", "severity"), [("t2w", ""), ("hbv", ""), ("adc", "S"), ("dwi", "S")])
def test_inverted_values_are_refused_where_they_must_be_measured(pixels: None, name: str, severity: str) -> None:
    slices = make(place(0, 3, 6)[0], inverted=True)
    if not severity:
        assert stack_volume(slices, name).GetDepth() == 3
        return
    with pytest.raises(SourceError, match="MONOCHROME1") as caught:
        stack_volume(slices, name)
    assert (caught.value.code, caught.value.severity) == ("INVERTED", severity)


def test_a_stack_is_not_inverted_in_part(pixels: None) -> None:
    slices = make(place(0, 3, 6)[0])
    with pytest.raises(SourceError, match="some inverted ones") as caught:
        stack_volume([*slices[:2], replace(slices[2], inverted=True)], "t2w")
    assert (caught.value.code, caught.value.severity) == ("INVERTED", "F")
