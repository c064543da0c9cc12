"""Files as slices, classic and enhanced."""

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

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
