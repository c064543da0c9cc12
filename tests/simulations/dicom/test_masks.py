"""Delineations in three formats hold the same voxels: by SimpleITK, highdicom, matplotlib and ingestion."""

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Outline
from pydicom import dcmread

from prostafed.client.ingest.labels import read_mask
from tests.simulations.dicom.rtstruct import write_rtstruct
from tests.simulations.dicom.seg import write_seg

FORMATS = ("nii.gz", "seg.dcm", "rtstruct.dcm")
NAMES = ("gland", "zones", "lesion")


@pytest.fixture(scope="session")
def reference(calibration):
    return sitk.ReadImage(str(calibration.masks["gland.nii.gz"]))


def test_the_nifti_lies_on_the_t2w(calibration, reference):
    place = calibration.t2w
    np.testing.assert_allclose(reference.GetOrigin(), place.origin_mm, atol=1e-3)
    np.testing.assert_allclose(reference.GetSpacing(), (*reversed(place.pixel_mm), place.slice_mm), atol=1e-5)
    at = reference.TransformIndexToPhysicalPoint((7, 9, 3))
    expected = place.position(3) + place.along_column * place.pixel_mm[0] * 9 + place.along_row * place.pixel_mm[1] * 7
    np.testing.assert_allclose(at, expected, atol=1e-3)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_ingestion_reads_every_format_to_the_voxel(calibration, reference, name, suffix):
    mask = read_mask(calibration.masks[f"{name}.{suffix}"], reference)
    onto = sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(onto), calibration.truth[name])  # Dice 1


@pytest.mark.parametrize("name", NAMES)
def test_highdicom_reads_the_segmentation(calibration, name):
    seg = highdicom.seg.segread(calibration.masks[f"{name}.seg.dcm"])
    volume = seg.get_volume(combine_segments=True)
    array, truth = volume.array, calibration.truth[name]
    if volume.unit_vectors()[0] @ calibration.t2w.normal < 0:
        array = array[::-1]
    used = np.flatnonzero(truth.any(axis=(1, 2)))  # it leaves empty slices out
    np.testing.assert_array_equal(array[array.any(axis=(1, 2))], truth[used[0] : used[-1] + 1])


def test_the_outlines_hold_the_mask(calibrate):
    """The pixel centres inside an odd number of outlines, by matplotlib, are the mask."""
    calibration = calibrate("siemens")
    place, truth = calibration.t2w, calibration.truth["zones"]
    found = rasterise(calibration.masks["zones.rtstruct.dcm"], place, truth.shape)
    np.testing.assert_array_equal(found, truth)


def rasterise(path, place, shape):
    found = np.zeros(shape, dtype=np.uint8)
    rows, columns = np.indices(shape[1:])
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    for roi in dcmread(path).ROIContourSequence:
        inside = np.zeros(shape, dtype=bool)
        for contour in roi.ContourSequence:
            points = np.reshape([float(each) for each in contour.ContourData], (-1, 3)) - place.origin_mm
            index = round(float(np.mean(points @ place.normal)) / place.slice_mm)
            np.testing.assert_allclose(points @ place.normal, index * place.slice_mm, atol=1e-4)
            outline = np.column_stack(
                [points @ place.along_row / place.pixel_mm[1], points @ place.along_column / place.pixel_mm[0]]
            )
            inside[index] ^= Outline(np.vstack([outline, outline[:1]])).contains_points(centres).reshape(shape[1:])
        found[inside] = roi.ReferencedROINumber
    return found


def test_holes_and_islands_are_outlines_of_their_own(calibrate, tmp_path):
    calibration = calibrate("siemens")
    mask = np.zeros_like(calibration.truth["gland"])
    mask[3, 40:60, 40:70] = 1
    mask[3, 45:50, 50:55] = 0
    mask[3, 100, 100] = 1  # one voxel
    mask[4, 10:12, 10:12] = 1
    sources = sorted((calibration.folder / "0001").iterdir())
    write_rtstruct(tmp_path / "holes.dcm", mask, calibration.t2w, sources, ["Prostate"])
    (roi,) = dcmread(tmp_path / "holes.dcm").ROIContourSequence
    assert len(roi.ContourSequence) == 4
    np.testing.assert_array_equal(rasterise(tmp_path / "holes.dcm", calibration.t2w, mask.shape), mask)
    reference = sitk.ReadImage(str(calibration.masks["gland.nii.gz"]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_mask(tmp_path / "holes.dcm", reference)), mask)


def test_an_empty_mask_is_no_segmentation(calibrate, tmp_path):
    calibration = calibrate("enhanced")
    with pytest.raises(ValueError, match="empty mask"):
        write_seg(tmp_path / "no.dcm", calibration.truth["gland"] * 0, [], ["Prostate"])
