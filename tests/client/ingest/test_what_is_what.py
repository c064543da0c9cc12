"""Which files and series are what, on whole studies: what was reported of other readers must not be repeated here."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from safetensors.numpy import load_file

from tests.client.ingest.test_bad_inputs import index
from tests.client.ingest.tiny_study import PIXELS, Study, make_study, save_study

Change = Callable[[Study], None]
DWI = ("dwi50", "dwi400", "dwi800")


def renew(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Copies of these images with SOP Instance UIDs of their own."""
    copies = deepcopy(list(datasets))
    for each in copies:
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return copies


def set_all(datasets: Iterable[Dataset], **values: object) -> None:
    for each in datasets:
        for keyword, value in values.items():
            setattr(each, keyword, value)


def spoil(datasets: Iterable[Dataset]) -> None:
    """Other pixels, as of a phase image."""
    random = np.random.default_rng(0)
    set_all(datasets, PixelData=random.integers(0, 4096, (PIXELS, PIXELS)).astype("<u2").tobytes())


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The image of the study as it is."""
    folder = tmp_path_factory.mktemp("right")
    return answer(make_study(), folder)[0]


def answer(study: Study, folder: Path) -> tuple[Any, list[str]]:
    """The case's image, None where there is none, and the codes of what was said."""
    save_study(study, folder / "export")
    (entry,) = index(folder / "export", folder / "cases")["studies"]
    files = list((folder / "cases").glob("*.safetensors"))
    return load_file(files[0])["image"] if files else None, [each["code"] for each in entry["findings"]]


def jitter(*names: str, steps: int = 2, step_ms: float = 0.001) -> Change:
    def change(study: Study) -> None:
        for number, each in enumerate(each for name in names for each in study[name]):
            each.EchoTime = f"{float(each.EchoTime) + step_ms * (number % steps):.3f}"

    return change


def more_types(*names: str) -> Change:
    def change(study: Study) -> None:
        for name in names:
            for each in study[name][1::2]:
                each.ImageType = [*each.ImageType, "FILTERED"]

    return change


def tail(*names: str) -> Change:
    def change(study: Study) -> None:
        series = [each for name in names for each in study[name]]
        set_all(series[5:], EchoTime=float(series[0].EchoTime) + 0.01)

    return change


def only_fit(change: Change) -> Change:
    """Without the scanner's map, so that the ADC comes from the diffusion images."""

    def both(study: Study) -> None:
        del study["adc"]
        change(study)

    return both


@pytest.mark.parametrize(
    "change",
    [
        *(jitter("t2w"), jitter("t2w", steps=3), more_types("t2w"), tail("t2w")),
        *(jitter("adc"), more_types("adc"), tail("adc"), jitter("hbv", steps=4), more_types("hbv"), tail("hbv")),
    ],
)
def test_a_difference_within_a_stack_does_not_split_it(tmp_path: Path, right: np.ndarray, change: Change) -> None:
    study = make_study()
    change(study)
    image, said = answer(study, tmp_path)
    assert said == []
    np.testing.assert_array_equal(image, right)


@pytest.mark.parametrize("change", [jitter(*DWI), jitter(*DWI, steps=3), more_types(*DWI), tail(*DWI)])
def test_a_difference_within_b_values_does_not_split_them(tmp_path: Path, change: Change) -> None:
    plain, changed = make_study(), make_study()
    del plain["adc"]
    only_fit(change)(changed)
    expected, _ = answer(plain, tmp_path / "plain")
    image, said = answer(changed, tmp_path / "changed")
    assert said == []
    np.testing.assert_array_equal(image, expected)


def test_a_stack_with_a_hole_and_two_echo_times_is_refused_not_halved(tmp_path: Path) -> None:
    study = make_study()
    jitter("t2w")(study)
    del study["t2w"][3]
    image, said = answer(study, tmp_path)
    assert image is None
    assert "MISSING_SLICE" in said


def test_what_is_set_aside_of_a_map_is_said(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    again = renew(study["adc"])
    spoil(again)
    set_all(again, ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "FILTERED"])
    study["again"] = again[:5]
    image, said = answer(study, tmp_path)
    assert said == ["SET_ASIDE"]
    np.testing.assert_array_equal(image, right)


PARTS = [
    {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "SE"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "R_SE", "R", "SE"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "I", "SE"]},
    {"ComplexImageComponent": "PHASE"},
    {"ComplexImageComponent": "REAL"},
]


@pytest.mark.parametrize("own_series", [True, False])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["t2w", "hbv"])
def test_a_part_of_the_signal_is_never_the_image(
    tmp_path: Path, right: np.ndarray, name: str, part: dict[str, object], own_series: bool
) -> None:
    study = make_study()
    phase = renew(study[name])
    spoil(phase)
    set_all(phase, **part)
    if own_series:
        set_all(phase, SeriesInstanceUID=generate_uid(), SeriesNumber=1)
    image, said = answer({"0phase": phase, **study}, tmp_path)
    assert said == []
    np.testing.assert_array_equal(image, right)


def test_an_image_of_another_plane_is_set_aside(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    other = renew(study["t2w"][:1])
    spoil(other)
    set_all(other, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], InstanceNumber=99)
    study["t2w"] += other
    image, said = answer(study, tmp_path)
    assert said == ["SET_ASIDE"]
    np.testing.assert_array_equal(image, right)


def repeat(study: Study, name: str = "t2w", **later: object) -> None:
    """Acquire a series again under its UID, with other pixels; the repeat is the one that counts."""
    again = renew(study[name])
    spoil(study[name])
    for number, each in enumerate(again, len(again) + 1):
        each.InstanceNumber = number
    set_all(study[name], **{keyword: 1 for keyword in later if keyword != "AcquisitionTime"})
    set_all(again, **later)
    study[f"{name} again"] = again


@pytest.mark.parametrize(
    "later",
    [{"AcquisitionNumber": 2}, {"TemporalPositionIdentifier": 2}, {"AcquisitionNumber": 2, "AcquisitionTime": "1010"}],
)
def test_of_two_acquisitions_in_one_series_the_later_is_used(
    tmp_path: Path, right: np.ndarray, later: dict[str, object]
) -> None:
    study = make_study()
    set_all(study["t2w"], AcquisitionTime="0900")
    repeat(study, **later)
    image, said = answer(study, tmp_path)
    assert said == ["SEVERAL_T2_AX"]
    np.testing.assert_array_equal(image, right)


def test_acquisitions_are_told_apart_by_the_time_of_each_slice(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    repeat(study)
    order = [*range(0, 8, 2), *range(1, 8, 2)]  # slices are acquired every second one first
    for start, name in ((100000, "t2w"), (101500, "t2w again")):
        for second, at in enumerate(order):
            study[name][at].AcquisitionTime = str(start + second)
    image, said = answer(study, tmp_path)
    assert said == ["SEVERAL_T2_AX"]
    np.testing.assert_array_equal(image, right)


def test_two_acquisitions_of_a_map_are_told_apart_and_said(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    repeat(study, "adc", AcquisitionNumber=2)
    image, said = answer(study, tmp_path)
    assert said == ["SET_ASIDE"]
    np.testing.assert_array_equal(image, right)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_an_acquisition_that_was_broken_off_or_moved_is_left_out(
    tmp_path: Path, right: np.ndarray, shift: float
) -> None:
    study = make_study()
    repeat(study, AcquisitionNumber=2)
    study["t2w"] = study["t2w"][:5]
    for each in study["t2w"]:
        x, y, z = each.ImagePositionPatient
        each.ImagePositionPatient = [x, y, z + shift]
    image, said = answer(study, tmp_path)
    assert said == ["SEVERAL_T2_AX"]
    np.testing.assert_array_equal(image, right)


def test_packages_of_slices_are_no_acquisitions(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    repeat(study, AcquisitionNumber=2)
    for name, first in (("t2w", 1), ("t2w again", 3)):
        for at, each in enumerate(study[name]):
            each.AcquisitionNumber = first + at % 2
    image, said = answer(study, tmp_path)
    assert said == ["SEVERAL_T2_AX"]
    np.testing.assert_array_equal(image, right)


def test_a_slice_at_a_wrong_position_splits_nothing(tmp_path: Path) -> None:
    study = make_study()
    for second, each in enumerate(study["t2w"]):
        each.AcquisitionTime = str(100000 + second)
    study["t2w"][4].ImagePositionPatient = study["t2w"][3].ImagePositionPatient
    image, said = answer(study, tmp_path)
    assert image is None
    assert "DUPLICATE_POSITION" in said


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("number", [lambda each: each.InstanceNumber, lambda _: 1, lambda _: "anonymized"])
def test_one_instance_uid_for_different_images_loses_none(
    tmp_path: Path, right: np.ndarray, number: Callable[[Dataset], object]
) -> None:
    study = make_study()
    for each in (each for series in study.values() for each in series):
        uid = str(number(each))
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{uid}"
    image, said = answer(study, tmp_path)
    assert said == []
    np.testing.assert_array_equal(image, right)


def test_a_copy_with_another_instance_uid_is_a_duplicate(tmp_path: Path, right: np.ndarray) -> None:
    study = make_study()
    study["copies"] = renew(study["t2w"])
    image, said = answer(study, tmp_path)
    assert said == ["DUPLICATE_INSTANCE"]
    np.testing.assert_array_equal(image, right)


@pytest.mark.parametrize(
    ("first", "second", "used"),
    [
        ({"AcquisitionTime": "0900"}, {"AcquisitionTime": "0930"}, "second"),
        ({"AcquisitionTime": "0930"}, {"AcquisitionTime": "0900"}, "first"),
        ({}, {}, "second"),  # by their numbers
        ({"AcquisitionTime": "0900"}, {"AcquisitionTime": "0930", "PixelSpacing": [0.5, 0.5]}, "first"),
    ],
)
def test_of_two_t2w_the_finer_then_the_later_is_used(
    tmp_path: Path, right: np.ndarray, first: dict[str, object], second: dict[str, object], used: str
) -> None:
    study = make_study()
    again = renew(study["t2w"])
    set_all(study["t2w"], **first)
    set_all(again, **{"SeriesInstanceUID": generate_uid(), "SeriesNumber": 9} | second)
    spoil(study["t2w"] if used == "second" else again)
    image, said = answer({"0again": again, **study}, tmp_path)
    assert said == ["SEVERAL_T2_AX"]
    np.testing.assert_array_equal(image, right)


CLASSES = {
    "series data of Philips": "1.3.46.670589.11.0.0.12.2",
    "private": "1.2.3.4.5",
    "spectroscopy": "1.2.840.10008.5.1.4.1.1.4.2",
    "raw data": "1.2.840.10008.5.1.4.1.1.66",
    "a presentation state": "1.2.840.10008.5.1.4.1.1.11.1",
}


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_without_pixels_is_left_out_without_a_word(tmp_path: Path, right: np.ndarray, name: str) -> None:
    study = make_study()
    (other,) = renew(study["t2w"][:1])
    del other.PixelData
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = CLASSES[name]
    if name == "spectroscopy":
        other.SpectroscopyData = bytes(64)
    study["other"] = [other]
    image, said = answer(study, tmp_path)
    assert said == []
    np.testing.assert_array_equal(image, right)


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.7"]
)
def test_an_image_without_pixels_was_cut(tmp_path: Path, uid: str) -> None:
    study = make_study()
    (other,) = renew(study["t2w"][:1])
    del other.PixelData
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = uid
    study["other"] = [other]
    assert "TRUNCATED" in answer(study, tmp_path)[1]
