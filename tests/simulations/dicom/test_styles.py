"""Files in each vendor's style: read by ingestion, by dcm2niix and by highdicom, they are what was written."""

import subprocess
import sys
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from prostafed.client.ingest.images.stack import stack_volume
from prostafed.simulations.dicom import GENERATED_TAG, GENERATED_VALUE
from prostafed.simulations.dicom.siemens import make_csa
from prostafed.simulations.dicom.style import Encoding
from prostafed.simulations.dicom.styles import STYLES
from tests.simulations.dicom.calibration_study import write_calibration_study

B_VALUES = (50.0, 400.0, 800.0, 1400.0)
SERIES = {  # kind of each series number, and the b-values its headers carry
    "siemens": {1: ("t2w", ()), 2: ("dwi", B_VALUES), 3: ("adc", (800.0,))},
    "ge": {
        1: ("t2w", ()), 2: ("dwi", (50.0, 400.0, 800.0)), 3: ("dwi", (50.0, 1400.0)), 4: ("adc", (800.0,)),
        5: ("derived", (800.0,)),
    },
    "philips": {1: ("t2w", ()), 2: ("dwi", B_VALUES), 3: ("adc", ())},
    "uih": {1: ("t2w", ()), 2: ("dwi", B_VALUES), 3: ("adc", ())},
    "enhanced": {1: ("t2w", ()), 2: ("dwi", B_VALUES), 3: ("adc", ())},
}  # fmt: skip


def point(place, index):
    """Where a voxel (slice, row, column) lies, in mm."""
    along = place.along_column * place.pixel_mm[0] * index[1] + place.along_row * place.pixel_mm[1] * index[2]
    return place.position(index[0]) + along


def test_every_file_says_that_it_is_generated(calibration):
    for path in calibration.folder.rglob("*.dcm"):
        dataset = dcmread(path, stop_before_pixels=True)
        assert dataset[GENERATED_TAG].value == GENERATED_VALUE == dataset.QualityControlImage
        assert "GENERATED" in dataset.ManufacturerModelName
        assert "GENERATED" in str(dataset.PatientName)
        assert "GENERATED" in dataset.PatientID
        assert "no patient" in dataset.ImageComments


def test_ingestion_reads_the_kinds_and_b_values_that_were_written(calibration, style, read_study):
    study = read_study(calibration.folder)
    assert study.generated
    assert study.findings == ()
    assert {each.number: (each.kind, each.b_values_s_per_mm2) for each in study.series} == SERIES[style]
    assert {each.plane for each in study.series} == {"axial"}
    assert {each.header.quantity for each in study.series if each.kind == "adc"} == {
        "113041" if style == "enhanced" else ""
    }


def test_ingestion_stacks_what_was_written(calibration, style, read_study):
    for series in read_study(calibration.folder).series:
        for volume in calibration.series[series.number].volumes:
            slices = [each for each in series.slices if volume.b_value_s_per_mm2 in (None, each.b_value_s_per_mm2)]
            stacked = stack_volume(slices, "t2w")
            step = max(each.slope for each in slices)
            np.testing.assert_allclose(sitk.GetArrayFromImage(stacked), volume.values, atol=step / 2 + 1e-3)
            last = [size - 1 for size in reversed(volume.values.shape)]
            expected = point(volume.placement, tuple(reversed(last)))
            np.testing.assert_allclose(stacked.TransformIndexToPhysicalPoint(last), expected, atol=0.01)


@pytest.fixture(scope="session")
def converted(calibration, tmp_path_factory):
    """What dcm2niix makes of the study, scaled as the headers say: (image, b-values or None) by series number."""
    program = Path(sys.executable).parent / "dcm2niix"
    if not program.exists():
        pytest.skip("dcm2niix is not installed: pip install dcm2niix")
    out = tmp_path_factory.mktemp("nifti")
    subprocess.run([program, "-f", "%s", "-p", "n", "-o", out, calibration.folder], check=True, capture_output=True)
    result = {}
    for path in sorted(out.glob("*.nii")):
        b_values = path.with_suffix(".bval")
        result[int(path.stem)] = sitk.ReadImage(str(path)), b_values.read_text().split() if b_values.exists() else None
    return result


def test_dcm2niix_agrees(calibration, style, converted):
    """Same voxels at the same places, and the same b-values except where dcm2niix is known to be wrong.

    dcm2niix writes b = 0 for GE's trace images (rordenlab/dcm2niix issues 149 and 690), and a stand-in of 2000 for
    isotropic frames of Philips' enhanced files: its .bval is meant for directions (issues 405 and 503).
    """
    assert converted.keys() == calibration.series.keys()
    for number, (image, b_values) in converted.items():
        scan = calibration.series[number]
        step = STYLES[style].encode(scan).slope
        grids = [image] if image.GetDimension() == 3 else [image[..., index] for index in range(image.GetSize()[3])]
        for volume, grid in zip(scan.volumes, grids, strict=True):
            values, place = volume.values, volume.placement
            assert grid.GetSpacing() == pytest.approx((*reversed(place.pixel_mm), place.slice_mm), abs=1e-3)
            assert grid.GetSize() == values.shape[::-1]
            for index in ((0, 0, 0), (5, 40, 11), (12, 30, 20), (len(values) - 1, values.shape[1] - 1, 3)):
                at = grid.TransformPhysicalPointToIndex([float(each) for each in point(place, index)])
                assert grid[at] == pytest.approx(values[index], abs=step / 2 + 1e-3)
            voxels = sitk.GetArrayFromImage(grid)
            np.testing.assert_allclose(np.sort(voxels.ravel()), np.sort(values.ravel()), atol=step / 2 + 1e-3)
        if scan.kind == "dwi":
            written = [f"{volume.b_value_s_per_mm2:.0f}" for volume in scan.volumes]
            known_wrong = {"ge": ["0"] * len(written), "enhanced": ["2000"] * len(written)}
            assert b_values == known_wrong.get(style, written)


def test_highdicom_reads_the_enhanced_files(calibrate):
    calibration = calibrate("enhanced")
    for number, scan in calibration.series.items():
        image = highdicom.imread(calibration.folder / f"{number:04d}" / "0001.dcm")
        frames = image.get_frames()
        assert len(frames) == sum(len(volume.values) for volume in scan.volumes)
        if len(scan.volumes) == 1:
            volume = image.get_volume(dtype=np.float32)  # sorted, real-world values, (slice, row, column)
            place = scan.volumes[0].placement
            assert volume.spacing == pytest.approx((place.slice_mm, *place.pixel_mm), abs=1e-4)
            ours_first = volume.unit_vectors()[0] @ place.normal > 0
            array, unit = volume.array if ours_first else volume.array[::-1], 1e-6 if scan.kind == "adc" else 1.0
            np.testing.assert_allclose(volume.unit_vectors()[0] * (1 if ours_first else -1), place.normal, atol=1e-6)
            np.testing.assert_allclose(array, scan.volumes[0].values * unit, rtol=0, atol=0.51 * unit)
        else:
            b_values = [
                frame.MRDiffusionSequence[0].DiffusionBValue for frame in image.PerFrameFunctionalGroupsSequence
            ]
            assert b_values == list(B_VALUES) * len(scan.volumes[0].values)


def test_nibabel_reads_the_csa_header(calibrate):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        from nibabel.nicom import csareader
    calibration = calibrate("siemens")
    for path in sorted((calibration.folder / "0002").iterdir())[::22]:
        dataset = dcmread(path)
        header = csareader.read(dataset[0x0029, 0x1010].value)
        assert csareader.get_scalar(header, "B_value") == dataset[0x0019, 0x100C].value
        assert header["tags"]["DiffusionDirectionality"]["items"][0].strip() == "ISOTROPIC"
    assert csareader.read(make_csa({"A": ("IS", "12"), "B": ("CS", "x")}))["n_tags"] == 2


@pytest.mark.data
def test_siemens_names_what_a_real_study_names(calibrate, data_folder):
    """The elements ingestion looks at hold the same kind of value as in ProstateX-0000."""
    real = {}
    for path in sorted((data_folder / "prostatex_dicom").rglob("1-01.dcm")):
        dataset = dcmread(path, stop_before_pixels=True)
        real[dataset.SeriesDescription] = dataset
    pairs = {1: "t2_tse_tra", 2: "ep2d_diff_tra_DYNDIST", 3: "ep2d_diff_tra_DYNDIST_ADC"}
    calibration = calibrate("siemens", b_values=(50.0, 400.0, 800.0))
    for number, description in pairs.items():
        made, true = dcmread(calibration.folder / f"{number:04d}" / "0001.dcm"), real[description]
        for keyword in (
            "ImageType", "SeriesDescription", "ProtocolName", "ScanningSequence", "SequenceName", "Manufacturer",
            "Modality", "BitsStored", "PixelRepresentation", "PhotometricInterpretation", "SequenceVariant",
        ):  # fmt: skip
            assert made.get(keyword) == true.get(keyword), (description, keyword)
        stated = true.get((0x0019, 0x100C))
        assert (0x0019, 0x100C) in made if stated else (0x0019, 0x100C) not in made
        if stated:
            assert str(made[0x0019, 0x100C].value) == stated.value.decode().strip()
        assert ("RescaleSlope" in made) == ("RescaleSlope" in true)


def test_the_same_study_is_the_same_bytes(tmp_path):
    first, second = (
        write_calibration_study(tmp_path / name, "enhanced", b_values=(0.0, 800.0), noise=0.05) for name in "ab"
    )
    for path in first.folder.rglob("*.dcm"):
        assert path.read_bytes() == (second.folder / path.relative_to(first.folder)).read_bytes()


def test_stored_pixels_by_hand():
    values = np.array([-3.0, 0.0, 1.2, 10.0, 1e6], dtype=np.float32)
    assert Encoding(12).store(values).tolist() == [0, 0, 1, 10, 4095]
    assert Encoding(16, signed=True).store(values).tolist() == [-3, 0, 1, 10, 32767]
    assert Encoding(12, slope=0.5, intercept=-3).store(values).tolist() == [0, 6, 8, 26, 4095]
