"""Files as slices, classic and enhanced."""

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from prostafed.client.ingest.records import Acquisition
from prostafed.client.ingest.scan.frames import read_frames
from prostafed.client.ingest.scan.instances import read_instances

HERE = Path("a.dcm")


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def test_a_classic_file_is_one_slice(make_slice) -> None:
    dataset = make_slice(
        ImagePositionPatient=[1, 2, 3],
        PixelSpacing=[0.5, 0.4],
        InstanceNumber=7,
        RescaleSlope=2,
        RescaleIntercept=-5,
        DiffusionBValue=50.0,
    )
    (frame,) = read_frames(dataset, HERE)
    plane = frame.slice
    assert (plane.path, plane.frame, plane.instance_uid) == (HERE, 0, dataset.SOPInstanceUID)
    assert (plane.instance_number, plane.rows, plane.columns) == (7, 4, 6)
    assert plane.position_mm == (1, 2, 3)
    assert plane.orientation == (1, 0, 0, 0, 1, 0)
    assert plane.pixel_spacing_mm == (0.5, 0.4)
    assert (plane.slope, plane.intercept, plane.b_value_s_per_mm2) == (2, -5, 50)
    assert (frame.image_type, frame.echo_time_ms) == (("ORIGINAL", "PRIMARY", "M", "NORM"), 100)


def test_what_a_file_lacks_is_none_and_a_rescale_of_one(make_slice) -> None:
    dataset = make_slice(
        ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None, EchoTime=None, InstanceNumber=None
    )
    (frame,) = read_frames(dataset, HERE)
    plane = frame.slice
    assert (plane.position_mm, plane.orientation, plane.pixel_spacing_mm) == (None, None, None)
    assert (plane.slope, plane.intercept, plane.instance_number, frame.echo_time_ms) == (1, 0, None, None)


def test_which_acquisition_a_slice_is_of(make_slice) -> None:
    tags = {"AcquisitionNumber": 2, "TemporalPositionIdentifier": 3, "AcquisitionTime": "101500"}
    (frame,) = read_frames(make_slice(AcquisitionDate="20200102", **tags), HERE)
    assert frame.slice.acquisition == Acquisition(2, 3, "20200102101500")
    content = item(FrameAcquisitionNumber=5, TemporalPositionIndex=6, FrameAcquisitionDateTime="20200102110000")
    own = [item(FrameContentSequence=[content])]
    (frame,) = read_frames(make_slice(PerFrameFunctionalGroupsSequence=own, **tags), HERE)
    assert frame.slice.acquisition == Acquisition(5, 6, "20200102110000")
    (frame,) = read_frames(make_slice(), HERE)
    assert frame.slice.acquisition == Acquisition()


@pytest.mark.parametrize("position", [[1, 2], [1, 2, 3, 4]])
def test_a_position_of_the_wrong_length_is_none(make_slice, position: list[float]) -> None:
    (frame,) = read_frames(make_slice(ImagePositionPatient=position), HERE)
    assert frame.slice.position_mm is None


def test_nan_stays_for_the_geometry_to_refuse(make_slice) -> None:
    (frame,) = read_frames(make_slice(ImagePositionPatient=[0, float("nan"), 0]), HERE)
    assert frame.slice.position_mm is not None
    assert math.isnan(frame.slice.position_mm[1])


def test_a_slope_of_zero_stays_for_the_reader_of_pixels_to_refuse(make_slice) -> None:
    (frame,) = read_frames(make_slice(RescaleSlope=0, RescaleIntercept=3), HERE)
    assert (frame.slice.slope, frame.slice.intercept) == (0, 3)


def test_an_enhanced_file_says_what_the_same_classic_files_say(tmp_path: Path, write_series) -> None:
    oblique = [1.0, 0.0, 0.0, 0.0, 0.8, -0.6]
    options = {
        "count": 2,
        "gap_mm": 3.5,
        "b_values": (50, 800),
        "ImageOrientationPatient": oblique,
        "PixelSpacing": [1.5, 2],
        "EchoTime": 63,
    }
    classic = [next(read_frames(pydicom.dcmread(path), path)) for path in write_series(tmp_path / "classic", **options)]
    (path,) = write_series(tmp_path / "enhanced", enhanced=True, **options)
    enhanced = list(read_frames(pydicom.dcmread(path), path))
    assert [each.slice.frame for each in enhanced] == [0, 1, 2, 3]
    for one, other in zip(classic, enhanced, strict=True):
        for name in ("rows", "columns", "position_mm", "orientation", "pixel_spacing_mm", "b_value_s_per_mm2", "slope"):
            assert getattr(one.slice, name) == getattr(other.slice, name), name
        assert one.echo_time_ms == other.echo_time_ms == 63
    assert [each.slice.b_value_s_per_mm2 for each in enhanced] == [50, 50, 800, 800]
    assert enhanced[1].slice.position_mm == (0, 2.1, 2.8)  # 3.5 mm along the normal (0, 0.6, 0.8)


def make_enhanced(make_slice, own: list[Dataset], shared: Dataset, **tags: object) -> Dataset:
    moved = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    return make_slice(
        **moved,
        NumberOfFrames=len(own),
        PerFrameFunctionalGroupsSequence=own,
        SharedFunctionalGroupsSequence=[shared],
        **tags,
    )


def test_a_frames_own_group_goes_before_the_shared_one_and_that_before_the_file(make_slice) -> None:
    own = item(
        PixelValueTransformationSequence=[item(RescaleSlope=3, RescaleIntercept=1)],
        MREchoSequence=[item(EffectiveEchoTime=70.0)],
        MRImageFrameTypeSequence=[item(FrameType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"])],
    )
    shared = item(
        PixelValueTransformationSequence=[item(RescaleSlope=2, RescaleIntercept=0)],
        PixelMeasuresSequence=[item(PixelSpacing=[1, 1])],
    )
    first, second = read_frames(make_enhanced(make_slice, [own, item()], shared, RescaleSlope=9), HERE)
    assert (first.slice.slope, first.slice.intercept) == (3, 1)
    assert (second.slice.slope, second.slice.intercept) == (2, 0)
    assert first.slice.pixel_spacing_mm == second.slice.pixel_spacing_mm == (1, 1)
    assert first.image_type == ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")
    assert second.image_type == ("ORIGINAL", "PRIMARY", "M", "NORM")
    assert (first.echo_time_ms, second.echo_time_ms) == (70, 100)


def test_real_world_values_stand_in_for_a_missing_rescale_only(make_slice) -> None:
    real_world = [item(RealWorldValueSlope=0.5, RealWorldValueIntercept=2.0)]
    (frame,) = read_frames(make_slice(RealWorldValueMappingSequence=real_world), HERE)
    assert (frame.slice.slope, frame.slice.intercept) == (0.5, 2)
    (frame,) = read_frames(make_slice(RealWorldValueMappingSequence=real_world, RescaleSlope=4), HERE)
    assert (frame.slice.slope, frame.slice.intercept) == (4, 0)
    group = item(RealWorldValueMappingSequence=real_world)
    (frame,) = read_frames(make_enhanced(make_slice, [group], item()), HERE)
    assert (frame.slice.slope, frame.slice.intercept) == (0.5, 2)


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (b"0,7 ", b"-3,5", (0.7, -3.5)),
        (b"abc ", b"0 ", (math.nan, 0)),
        (b"1 ", b"abc ", (1, math.nan)),
        (b"", b"0 ", (math.nan, 0)),
        (b"1\\2 ", b"0 ", (math.nan, 0)),
        (b"inf ", b"0 ", (math.inf, 0)),
        (None, b"-3 ", (1, -3)),
    ],
)
def test_a_rescale_that_is_there_and_cannot_be_read_is_not_one(
    make_slice, slope: bytes | None, intercept: bytes, expected: tuple[float, float]
) -> None:
    dataset = make_slice()
    for tag, value in ((0x0028_1053, slope), (0x0028_1052, intercept)):
        if value is not None:
            dataset[tag] = raw(tag, "DS", value)
    (frame,) = read_frames(dataset, HERE)
    assert (frame.slice.slope, frame.slice.intercept) == pytest.approx(expected, nan_ok=True)


def test_the_files_rescale_does_not_stand_in_for_a_frames_own_that_cannot_be_read(make_slice) -> None:
    own = item(PixelValueTransformationSequence=[item()])
    own.PixelValueTransformationSequence[0][0x0028_1053] = raw(0x0028_1053, "DS", b"abc ")
    (frame,) = read_frames(make_enhanced(make_slice, [own], item(), RescaleSlope=9), HERE)
    assert math.isnan(frame.slice.slope)


def test_frames_that_cannot_be_counted_are_those_described(make_slice) -> None:
    dataset = make_enhanced(make_slice, [item(), item()], item())
    dataset[0x0028_0008] = raw(0x0028_0008, "IS", b"two ")
    assert len(list(read_frames(dataset, HERE))) == 2


@pytest.mark.parametrize(
    ("vr", "value", "limit", "tags", "expected"),
    [
        ("US", 4095, None, {"BitsStored": 12}, (4095, 4095)),
        ("US", 63536, None, {"PixelRepresentation": 1}, (-2000, -2000)),  # written as if unsigned
        ("SS", -2000, None, {"PixelRepresentation": 1}, (-2000, -2000)),
        ("SS", -2048, None, {"PixelRepresentation": 1, "BitsStored": 12}, (-2048, -2048)),
        ("US", 0xF800, None, {"PixelRepresentation": 1, "BitsStored": 12}, (-2048, -2048)),
        ("US", 65535, None, {"BitsStored": 12}, (4095, 4095)),  # all bits set, four of them not stored
        ("US", 4095, 4000, {}, (4000, 4095)),
        ("SS", -5, -1, {"PixelRepresentation": 1}, (-5, -1)),
        ("UN", b"\xff\x0f", None, {}, (4095, 4095)),
        ("DS", b"none", None, {}, None),
    ],
)
def test_padding_is_in_stored_values(
    make_slice, vr: str, value: int | bytes, limit: int | None, tags: dict[str, int], expected: tuple[int, int] | None
) -> None:
    dataset = make_slice(**tags)
    for tag, number in ((0x0028_0120, value), (0x0028_0121, limit)):
        if number is not None:
            data = number if isinstance(number, bytes) else number.to_bytes(2, "little", signed=number < 0)
            dataset[tag] = raw(tag, vr, data)
    (frame,) = read_frames(dataset, HERE)
    assert frame.slice.padding == expected


@pytest.mark.parametrize("bits", [b"-7", b"99999999999 "])
def test_padding_beside_bits_that_are_garbage(make_slice, bits: bytes) -> None:
    dataset = make_slice()
    dataset[0x0028_0120] = raw(0x0028_0120, "US", b"\7\0")
    dataset[0x0028_0101] = raw(0x0028_0101, "IS", bits)
    (frame,) = read_frames(dataset, HERE)
    assert frame.slice.padding is not None


def test_padding_of_implicit_and_of_float_pixels(tmp_path: Path, make_slice, implicit_syntax: str) -> None:
    dataset = make_slice(syntax=implicit_syntax)
    dataset.add_new(0x0028_0120, "US", 7)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    (frame,) = read_frames(pydicom.dcmread(tmp_path / "a"), HERE)
    assert frame.slice.padding == (7, 7)
    (frame,) = read_frames(make_slice(FloatPixelPaddingValue=-1.5, FloatPixelPaddingRangeLimit=-9.0), HERE)
    assert frame.slice.padding == (-9, -1.5)
    (frame,) = read_frames(make_slice(), HERE)
    assert frame.slice.padding is None


def test_what_tells_images_apart_that_must_not_be_mixed(make_slice) -> None:
    (frame,) = read_frames(make_slice(PhotometricInterpretation="MONOCHROME1", FrameOfReferenceUID="1.2"), HERE)
    assert (frame.slice.inverted, frame.slice.frame_of_reference) == (True, "1.2")
    assert (frame.slice.echo_time_ms, frame.slice.repetition_time_ms) == (100, 5000)
    (frame,) = read_frames(make_slice(EchoTime=None, RepetitionTime=None), HERE)
    assert (frame.slice.inverted, frame.slice.frame_of_reference) == (False, "")
    assert (frame.slice.echo_time_ms, frame.slice.repetition_time_ms) == (None, None)
    own = item(MRTimingAndRelatedParametersSequence=[item(RepetitionTime=3000.0)])
    first, second = read_frames(make_enhanced(make_slice, [own, item()], item()), HERE)
    assert (first.slice.repetition_time_ms, second.slice.repetition_time_ms) == (3000, 5000)


@pytest.mark.parametrize(("stated", "described", "found"), [(3, 3, 3), (2, 3, 2), (10**9, 2, 2), (5, 0, 1), (0, 0, 1)])
def test_as_many_frames_as_a_file_describes(make_slice, stated: int, described: int, found: int) -> None:
    dataset = make_enhanced(make_slice, [item() for _ in range(described)], item())
    dataset.NumberOfFrames = stated
    assert len(list(read_frames(dataset, HERE))) == found


@pytest.mark.parametrize("enhanced", [False, True])
def test_each_slice_knows_where_its_pixels_lie(tmp_path: Path, write_series, enhanced: bool) -> None:
    volume = np.arange(3 * 4 * 6).reshape(3, 4, 6)
    paths = write_series(tmp_path, volume=volume, enhanced=enhanced)
    slices = [each for instance in read_instances(paths) for each in instance.groups[0].slices]
    for plane, values in zip(slices, volume, strict=True):
        found = np.fromfile(plane.path, plane.stored.kind, values.size, offset=plane.stored.offset)
        np.testing.assert_array_equal(found, values.ravel())


@pytest.mark.data
@pytest.mark.parametrize("name", ["001", "001_implicit"])
def test_a_real_enhanced_file_of_philips(data_folder: Path, name: str) -> None:
    (path,) = (data_folder / "dicom_vendors/dicom2nifti/philips_enhanced/dti" / name).glob("*")
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    frames = list(read_frames(dataset, path))
    assert len(frames) == dataset.NumberOfFrames == 32
    for index, frame in enumerate(frames):
        own = dataset.PerFrameFunctionalGroupsSequence[index]
        assert frame.slice.position_mm == tuple(own.PlanePositionSequence[0].ImagePositionPatient)
        assert frame.slice.orientation == tuple(own.PlaneOrientationSequence[0].ImageOrientationPatient)
        assert frame.slice.b_value_s_per_mm2 == own.MRDiffusionSequence[0].DiffusionBValue
        assert frame.slice.directional is (frame.slice.b_value_s_per_mm2 > 0)
        assert frame.slice.slope == float(own.PixelValueTransformationSequence[0].RescaleSlope)
