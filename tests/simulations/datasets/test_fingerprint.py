"""The fingerprint of a T2: alike whatever way a study was stored, unlike between patients."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from prostafed.simulations.datasets.fingerprint import CELLS, SAME_STUDY, describe_volume
from prostafed.simulations.phantom.picai_layout import Emulation, write_picai_layout

BITS = CELLS[0] * (CELLS[1] * (CELLS[2] - 1) + (CELLS[1] - 1) * CELLS[2])


def differ(one: str, other: str) -> float:
    """Share of bits that differ, counted slowly."""
    return (int(one, 16) ^ int(other, 16)).bit_count() / BITS


def resample(volume: sitk.Image, spacing: tuple[float, float, float]) -> sitk.Image:
    size = [round(a * b / c) for a, b, c in zip(volume.GetSize(), volume.GetSpacing(), spacing, strict=True)]
    return sitk.Resample(
        volume, size, sitk.Transform(), sitk.sitkLinear, volume.GetOrigin(), spacing, volume.GetDirection()
    )


def noisy(volume: sitk.Image) -> sitk.Image:
    noise = np.random.default_rng(0).normal(0, 20, volume.GetSize()[::-1]).astype(np.float32)
    image = sitk.GetImageFromArray(sitk.GetArrayFromImage(volume).astype(np.float32) + noise)
    image.CopyInformation(volume)
    return image


STORED = {
    "turned round": (lambda volume: sitk.Flip(volume, [False, True, True]), 0.0),
    "in other units": (lambda volume: sitk.Cast(volume, sitk.sitkFloat32) * 0.37 + 5, 0.0),
    "other axes first": (lambda volume: sitk.PermuteAxes(volume, [2, 0, 1]), 0.0),
    "cropped evenly": (lambda volume: volume[10:-10, 10:-10, :], 0.0),
    "brighter in the dark": (lambda volume: sitk.Pow(sitk.Cast(volume, sitk.sitkFloat32), 0.7), 0.03),
    "with noise": (noisy, 0.03),
    "in coarser pixels": (lambda volume: resample(volume, (0.625, 0.625, 3.0)), 0.06),
    "in thicker slices": (lambda volume: resample(volume, (0.5, 0.5, 3.6)), 0.08),
}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[sitk.Image]:
    """T2 volumes of six generated patients, whole field of view, oblique."""
    root = tmp_path_factory.mktemp("t2")
    write_picai_layout(root, 6, Emulation(1))
    return [sitk.ReadImage(str(path)) for path in sorted(root.glob("images/*/*_t2w.mha"))]


@pytest.mark.parametrize("way", STORED)
def test_one_study_is_known_again(generated: list[sitk.Image], way: str) -> None:
    change, most = STORED[way]
    for volume in generated[:3]:
        assert differ(describe_volume(volume), describe_volume(change(volume))) <= most < SAME_STUDY


def test_two_patients_are_not_taken_for_one(generated: list[sitk.Image]) -> None:
    shares = [differ(*pair) for pair in combinations(map(describe_volume, generated), 2)]
    assert min(shares) > 2 * SAME_STUDY


def test_two_patients_in_a_small_field_of_view_are_not_taken_for_one(generated: list[sitk.Image]) -> None:
    """Else what lies outside both would count as alike."""
    middles = []
    for volume in generated:
        first = [
            (size - round(mm / step)) // 2
            for size, step, mm in zip(volume.GetSize(), volume.GetSpacing(), (54, 54, 30), strict=True)
        ]
        middles.append(volume[first[0] : -first[0], first[1] : -first[1], first[2] : -first[2]])
    assert min(differ(*pair) for pair in combinations(map(describe_volume, middles), 2)) > 2 * SAME_STUDY


def test_by_hand() -> None:
    """Brightness that grows along x sets every bit of the steps along x, and none of those along y."""
    voxels = np.broadcast_to(np.arange(120, dtype=np.float32), (14, 120, 120))
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels))
    image.SetSpacing((1.0, 1.0, 3.0))
    steps_y, steps_x = 6 * 11 * 12, 6 * 12 * 11
    assert describe_volume(image) == format((1 << steps_x) - 1, f"0{(steps_y + steps_x) // 4}x")


@settings(max_examples=20, deadline=None)
@given(size=st.tuples(*[st.integers(1, 40)] * 3), spacing=st.tuples(*[st.floats(0.2, 20)] * 3))
def test_any_volume_has_one(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    assert describe_volume(image) == "0" * (BITS // 4)


@pytest.mark.data
def test_the_real_study_as_dicom_and_as_mha_is_one_and_the_other_patient_is_not(data_folder: Path) -> None:
    reader = sitk.ImageSeriesReader()
    series = next((data_folder / "prostatex_dicom" / "ProstateX-0000").glob("*/4.*"), None)
    if series is None:
        pytest.skip("no prostatex_dicom/")
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    images = data_folder / "picai_layout" / "images"
    same, other = (
        describe_volume(sitk.ReadImage(str(images / path)))
        for path in ("11373/11373_1001396_t2w.mha", "10795/10795_1000811_t2w.mha")
    )
    original = reader.Execute()
    assert describe_volume(original) == same
    assert differ(describe_volume(original), other) > 0.3
    for change, most in STORED.values():
        assert differ(describe_volume(change(original)), same) <= most
