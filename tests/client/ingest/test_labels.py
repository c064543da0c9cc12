from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.image_files import read_image
from prostafed.client.ingest.labels import fill_contours, is_empty, order_zones, read_mask, select_lesions
from tests.client.ingest.tiny_study import PIXELS, SLICE_MM, SLICES, make_study
from tests.simulations.dicom.calibration_study import Calibration, write_calibration_study


def image(values: object, kind: type = np.uint8) -> sitk.Image:
    made = sitk.GetImageFromArray(np.asarray(values, dtype=kind))
    made.SetOrigin((-5, 3, 8))
    made.SetSpacing((0.5, 0.75, 3))
    made.SetDirection((1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8))
    return made


def voxels(made: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(made)


def refuse(code: str, call: object, *arguments: object, says: str = ".") -> None:
    with pytest.raises(SourceError, match=says) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.code == code


BOX = image(np.zeros((4, 20, 24)))
SQUARE = np.array([(1.5, 2.5, 2), (5.5, 2.5, 2), (5.5, 7.5, 2), (1.5, 7.5, 2)])  # around columns 2-5, rows 3-7


# What values mean


def test_lesions_of_isup_2_and_more_are_cancer_that_counts() -> None:
    graded = image([[[0, 1, 2, 3, 4, 5]]])
    assert voxels(select_lesions(graded, "isup")).tolist() == [[[0, 0, 1, 1, 1, 1]]]
    assert select_lesions(graded, "isup").GetOrigin() == (-5, 3, 8)


def test_a_binary_mask_holds_0_and_1() -> None:
    assert voxels(select_lesions(image([[[0, 1]]], np.float64), "binary")).tolist() == [[[0, 1]]]


def test_lesions_csv_says_what_a_label_is() -> None:
    numbered = image([[[0, 1, 2, 3]]])
    assert voxels(select_lesions(numbered, "binary", {1: 3, 2: 1, 3: 2})).tolist() == [[[0, 1, 0, 1]]]
    refuse("MASK_LABEL", select_lesions, numbered, "binary", {1: 3, 2: 1}, says=r"known ISUP grade .*\(1, 2\).*found 3")
    refuse("MASK_LABEL", select_lesions, numbered, "binary", {1: 3, 2: None, 3: 0})


@pytest.mark.parametrize("value", [2, 0.5, -1, float("nan"), 255])
def test_other_values_of_a_binary_mask_are_refused(value: float) -> None:
    refuse("MASK_LABEL", select_lesions, image([[[0, value]]], np.float32), "binary")


@pytest.mark.parametrize("value", [6, 1.5, -1, float("nan")])
def test_other_values_of_grades_are_refused(value: float) -> None:
    refuse("MASK_LABEL", select_lesions, image([[[0, value]]], np.float32), "isup")


def test_a_value_is_shown_as_it_is() -> None:
    """1.9999998 is not "2": a sentence that expected 1, 2, 3 and found 2 helps nobody."""
    almost = image([[[0, 1.9999998]]], np.float32)
    refuse("MASK_LABEL", select_lesions, almost, "isup", says=r"found 1\.9999998;")
    refuse("MASK_LABEL", select_lesions, almost, "binary", {2: 3}, says=r"\(2\) .* found 1\.9999998;")
    refuse("MASK_LABEL", order_zones, almost, "pz1_tz2", says=r"found 1\.9999998;")
    refuse("MASK_LABEL", order_zones, image([[[0, 300]]], np.int32), "pz1_tz2", says="found 300;")


def test_zones_have_one_order() -> None:
    zones = image([[[0, 1, 2]]], np.int32)
    assert voxels(order_zones(zones, "pz1_tz2")).tolist() == [[[0, 1, 2]]]
    assert voxels(order_zones(zones, "tz1_pz2")).tolist() == [[[0, 2, 1]]]
    refuse("MASK_LABEL", order_zones, image([[[0, 1, 3]]]), "pz1_tz2")


def test_empty() -> None:
    assert is_empty(image([[[0, 0]]]))
    assert not is_empty(image([[[0, 1]]]))


# Contours


def test_a_voxel_is_inside_when_its_centre_is() -> None:
    expected = np.zeros((4, 20, 24))
    expected[2, 3:8, 2:6] = 1
    filled = fill_contours({1: [SQUARE]}, BOX)
    assert np.array_equal(voxels(filled), expected)
    assert filled.GetDirection() == BOX.GetDirection()


def test_a_contour_within_another_is_a_hole_and_labels_are_kept() -> None:
    hole = np.array([(2.5, 3.5, 2), (3.5, 3.5, 2), (3.5, 4.5, 2), (2.5, 4.5, 2)])
    island = SQUARE + np.array((10, 5, 1))
    filled = voxels(fill_contours({3: [SQUARE, hole], 7: [island]}, BOX))
    assert filled[2, 4, 3] == 0
    assert (filled == 3).sum() == 5 * 4 - 1
    assert (filled[3] == 7).sum() == 5 * 4


def test_regions_that_share_a_voxel_are_refused() -> None:
    """The later one would hide the earlier: the gland its zones, the body everything."""
    within = np.array([(2.5, 3.5, 2), (3.5, 3.5, 2), (3.5, 4.5, 2), (2.5, 4.5, 2)])
    says = "expected regions that do not overlap, found 2 of which two share 1 voxels"
    refuse("MASK_LABEL", fill_contours, {1: [within], 2: [SQUARE]}, BOX, says=says)
    refuse("MASK_LABEL", fill_contours, {1: [SQUARE], 2: [within]}, BOX, says=says)
    beside = voxels(fill_contours({1: [SQUARE], 2: [SQUARE + np.array((4, 0, 0))]}, BOX))  # they share an edge
    assert [(beside == label).sum() for label in (1, 2)] == [20, 20]


def test_contours_that_leave_the_image_are_cut() -> None:
    assert voxels(fill_contours({1: [SQUARE + np.array((20, 15, 0))]}, BOX)).sum() == 2 * 2  # columns 22-23, rows 18-19
    assert voxels(fill_contours({1: [SQUARE + np.array((90, 0, 0))]}, BOX)).sum() == 0


@pytest.mark.parametrize("off", [0.3, -0.3, 3, -3, 40])
def test_contours_off_the_slices_are_refused(off: float) -> None:
    refuse("MASK_SPACE", fill_contours, {1: [SQUARE + np.array((0, 0, off))]}, BOX)
    if abs(off) < 1:
        fill_contours({1: [SQUARE + np.array((0, 0, off / 2))]}, BOX)


@given(st.lists(st.tuples(st.floats(-3, 27), st.floats(-3, 23)), min_size=3, max_size=9))
@settings(max_examples=60, deadline=None)
def test_filling_agrees_with_counting_crossings(corners: list[tuple[float, float]]) -> None:
    """Oracle: a ray to the right crosses the outline an odd number of times."""
    points = np.array([(x + 0.0123, y + 0.0071, 1) for x, y in corners])  # off the voxel centres
    expected = np.zeros((20, 24))
    for (x0, y0, _), (x1, y1, _) in zip(points, np.roll(points, -1, axis=0), strict=True):
        for y in range(20):
            if (y0 > y) != (y1 > y):
                crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                expected[y] += np.arange(24) < crossing
    # matplotlib fills by even-odd, as DICOM does; where corners coincide the outline is no longer a plain polygon
    assert np.array_equal(voxels(fill_contours({1: [points]}, BOX))[1], expected % 2)


# Files


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return write_calibration_study(tmp_path_factory.mktemp("calibration"), "siemens")


@pytest.mark.parametrize("name", ["gland", "zones", "lesion"])
@pytest.mark.parametrize("suffix", ["nii.gz", "seg.dcm", "rtstruct.dcm"])
def test_every_format_is_the_same_mask(calibration: Calibration, name: str, suffix: str) -> None:
    reference = sitk.ReadImage(str(calibration.masks[f"{name}.nii.gz"]))
    truth = voxels(reference)
    mask = read_mask(calibration.masks[f"{name}.{suffix}"], reference)
    assert mask.GetSize()[:2] == reference.GetSize()[:2]  # slices are the last axis
    on_reference = sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    assert np.array_equal(voxels(on_reference), truth)  # Dice 1.0, per label
    assert truth.any()


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "nii", "mhd"])
def test_image_files(tmp_path: Path, suffix: str) -> None:
    mask = image(np.random.default_rng(0).integers(0, 3, (3, 5, 4)))
    sitk.WriteImage(mask, str(tmp_path / f"a.{suffix}"))
    read = read_mask(tmp_path / f"a.{suffix}", BOX)
    assert np.array_equal(voxels(read), voxels(mask))
    assert read.GetOrigin() == pytest.approx((-5, 3, 8), abs=1e-5)
    assert read.GetDirection() == pytest.approx(mask.GetDirection(), abs=1e-5)


def save_nifti(path: Path, qform: np.ndarray, sform: np.ndarray, codes: tuple[int, int]) -> Path:
    made = nibabel.Nifti1Image(np.ones((4, 5, 3), np.uint8), sform)
    made.set_qform(qform, codes[0])
    made.set_sform(sform, codes[1])
    nibabel.save(made, path)
    return path


@pytest.mark.parametrize(
    ("off_mm", "codes", "refused"), [(12, (1, 1), True), (0.4, (1, 1), False), (12, (1, 0), False)]
)
def test_a_nifti_file_has_one_position(tmp_path: Path, off_mm: float, codes: tuple[int, int], refused: bool) -> None:
    affine = np.diag((0.5, 0.5, 3.0, 1.0))
    off = affine.copy()
    off[0, 3] += off_mm
    path = save_nifti(tmp_path / "a.nii.gz", affine, off, codes)
    if not refused:
        return check_read(path)
    says = "expected one position of the mask, found two that lie 24.0 voxels apart"
    refuse("MASK_SPACE", read_mask, path, BOX, says=says)
    return refuse("MASK_SPACE", read_image, path, "the t2w image", says="one position of the t2w image")


def check_read(path: Path) -> None:
    assert read_mask(path, BOX).GetSize() == (4, 5, 3)


def test_sheared_axes_are_the_reason(tmp_path: Path) -> None:
    sheared = np.diag((0.5, 0.5, 3.0, 1.0))
    sheared[0, 1] = 0.02
    path = save_nifti(tmp_path / "a.nii.gz", np.eye(4), sheared, (0, 1))
    refuse("BAD_ORIENTATION", read_mask, path, BOX, says="the mask on perpendicular axes, .* not orthonormal")


def test_what_a_file_says_beside_its_voxels_is_forgotten(tmp_path: Path) -> None:
    mask = image(np.ones((3, 5, 4)))
    mask.SetMetaData("0010|0010", "Doe^John")
    sitk.WriteImage(mask, str(tmp_path / "a.mha"))
    assert not read_mask(tmp_path / "a.mha", BOX).GetMetaDataKeys()


def test_files_that_are_no_mask(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Doe.nii.gz").write_bytes(b"no gzip")
    (tmp_path / "Doe.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(200)))
    for name in ("Doe.nii.gz", "Doe.dcm", "missing.mha"):
        refuse("UNREADABLE", read_mask, tmp_path / name, BOX)
    sitk.WriteImage(sitk.Image((2, 2, 2, 2), sitk.sitkUInt8), str(tmp_path / "Doe.nii"))
    refuse("NO_GEOMETRY", read_mask, tmp_path / "Doe.nii", BOX, says="found 4 dimensions")
    assert "Doe" not in "".join(capfd.readouterr())


def test_an_mr_image_is_no_mask(calibration: Calibration, tmp_path: Path) -> None:
    path = next(path for path in calibration.folder.rglob("*") if path.is_file())
    refuse("UNREADABLE", read_mask, path, BOX, says="found another DICOM file;")
    damaged = tmp_path / "a.dcm"
    damaged.write_bytes(calibration.masks["gland.rtstruct.dcm"].read_bytes()[:2000])
    refuse("UNREADABLE", read_mask, damaged, BOX, says="found one that is damaged;")


def save_seg(path: Path, values: np.ndarray, slices: Sequence[Dataset] | None = None, kind: str = "BINARY") -> Path:
    """Write a SEG of `values`, (z, y, x, segment), on `slices`, by default those of the tiny study's T2W."""
    described = [
        hd.seg.SegmentDescription(number, "part", codes.SCT.Tissue, codes.SCT.Organ, "MANUAL")
        for number in range(1, values.shape[3] + 1)
    ]
    sources = list(slices or make_study()["t2w"])
    for each in sources:
        each.PatientBirthDate = each.AccessionNumber = each.StudyID = each.StudyTime = each.ReferringPhysicianName = ""
    made = hd.seg.Segmentation(sources, values, kind, described, hd.UID(), 99, hd.UID(), 1, "H", "M", "1", "S")
    made.save_as(path)
    return path


def parts(count: int = 1) -> np.ndarray:
    values = np.zeros((SLICES, PIXELS, PIXELS, count), np.uint8)
    values[2:6, 8:20, 8:20] = 1
    return values


def test_why_a_segmentation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    assert voxels(read_mask(save_seg(path, parts()), BOX)).sum() == 4 * 12 * 12
    save_seg(path, parts() * np.float32(0.7), kind="FRACTIONAL")
    refuse("MASK_LABEL", read_mask, path, BOX, says="expected a binary SEG, found a fractional one")
    save_seg(path, parts(2))
    refuse("MASK_LABEL", read_mask, path, BOX, says="expected segments that do not overlap, found 2 of which two do")
    uneven = make_study()["t2w"]
    uneven[3].ImagePositionPatient[2] += 0.4 * SLICE_MM
    save_seg(path, parts(), uneven)
    refuse("NO_GEOMETRY", read_mask, path, BOX, says="expected a SEG on parallel, evenly spaced slices")


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_mask_cut_anywhere_is_a_mask_or_a_sentence(calibration: Calibration, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["seg.dcm", "rtstruct.dcm", "nii.gz"]))
    whole = calibration.masks[f"lesion.{suffix}"].read_bytes()
    path = calibration.folder.parent / f"cut.{suffix}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with suppress(SourceError):
        assert read_mask(path, BOX).GetDimension() == 3
