"""NCI-ISBI 2013: corrected masks, masks on other slices, and the central gland as TZ."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.simulations.datasets.nci_isbi import list_files
from tests.simulations.datasets import layouts
from tests.simulations.datasets.layouts import DICOM_GRID
from tests.simulations.dicom.calibration_study import Calibration


def write(root: Path, study: Calibration) -> None:
    """A patient of each collection; ProstateDx-01-0006 has a corrected mask as well, -0055 one on other slices."""
    zones = sitk.ReadImage(str(study.masks["zones.nii.gz"]))
    wrong = sitk.Image(zones.GetSize(), sitk.sitkUInt8)
    wrong.CopyInformation(zones)
    wrong[0:3, 0:3, 0:3] = 1
    masks = {
        "Prostate3T-01-0001": {"": zones},
        "ProstateDx-01-0006": {"": wrong, "_correctedLabels": zones},
        "ProstateDx-01-0055": {"": zones[:, :, ::2]},  # every second slice: another spacing
    }
    for name, files in masks.items():
        collection = "Prostate-3T" if "3T" in name else "PROSTATE-DIAGNOSIS"
        shutil.copytree(study.folder / "0001", root / "manifest-1" / collection / name / "1.2.3" / "4.5.6")
        for suffix, mask in files.items():
            path = root / "Training" / f"{name}{suffix}.nrrd"
            path.parent.mkdir(exist_ok=True)
            sitk.WriteImage(mask, str(path))


def load(root, **options):
    return {case[0].case_id: case for case in layouts.load("nci-isbi", root, DICOM_GRID, ("t2w",), **options)}


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.fixture(scope="module")
def cases(written):
    return load(written("nci-isbi"))


def test_centres_are_those_of_the_collections(cases):
    centers = {case_id: record.center for case_id, (record, _, _) in cases.items()}
    assert centers == {"Prostate3T-01-0001": "RUMC", "ProstateDx-01-0006": "Boston", "ProstateDx-01-0055": "Boston"}
    assert all(record.cspca is None and record.masks == ("gland", "zones") for record, _, _ in cases.values())


def test_zones_have_the_volume_of_the_truth(cases, calibration):
    _, _, masks = cases["Prostate3T-01-0001"]
    voxel_mm3 = np.prod(calibration_spacing(calibration))
    for zone in (1, 2):
        expected = (calibration.truth["zones"] == zone).sum() * voxel_mm3
        assert (masks[1] == zone).sum() * np.prod(DICOM_GRID.spacing_mm) == pytest.approx(expected, rel=0.03)


def calibration_spacing(calibration):
    return sitk.ReadImage(str(calibration.masks["zones.nii.gz"])).GetSpacing()


def test_the_corrected_mask_counts_whatever_its_name_sorts_to(cases):
    np.testing.assert_array_equal(cases["ProstateDx-01-0006"][2], cases["Prostate3T-01-0001"][2])


def test_a_mask_on_other_slices_is_placed_by_position(cases):
    gland, whole = cases["ProstateDx-01-0055"][2][0] > 0, cases["Prostate3T-01-0001"][2][0] > 0
    assert dice(gland, whole) > 0.95


def test_a_mask_elsewhere_in_the_patient_is_refused(copied):
    root = copied("nci-isbi")
    path = root / "Training" / "ProstateDx-01-0055.nrrd"
    mask = sitk.ReadImage(str(path))
    mask.SetOrigin((mask.GetOrigin()[0], mask.GetOrigin()[1], mask.GetOrigin()[2] + 90))
    sitk.WriteImage(mask, str(path))
    errors = []
    assert list(load(root, on_error=errors.append)) == ["Prostate3T-01-0001", "ProstateDx-01-0006"]
    assert str(errors[0]).startswith("MASK_SPACE case=ProstateDx-01-0055: expected the")


def test_a_mask_in_ras_is_read_in_ras(copied, cases):
    """Slicer writes NRRD in either space; only the header changes here, and nothing of the case."""
    root = copied("nci-isbi")
    path = root / "Training" / "Prostate3T-01-0001.nrrd"
    head, voxels = path.read_bytes().split(b"\n\n", 1)
    lines = []
    for line in head.decode().splitlines():
        key, _, value = line.partition(": ")
        if key == "space":
            value = "right-anterior-superior"
        if key in {"space directions", "space origin"}:
            vectors = [np.array(each.strip("()").split(","), dtype=float) for each in value.split()]
            value = " ".join("({})".format(",".join(map(repr, (each * (-1, -1, 1)).tolist()))) for each in vectors)
        lines.append(f"{key}: {value}" if value else line)
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + voxels)
    np.testing.assert_array_equal(load(root)["Prostate3T-01-0001"][2], cases["Prostate3T-01-0001"][2])


def test_a_patient_of_the_collection_alone_comes_without_masks(copied):
    root = copied("nci-isbi")
    (root / "Training" / "Prostate3T-01-0001.nrrd").unlink()
    assert load(root)["Prostate3T-01-0001"][0].masks == ()


class TestTree:
    def test_masks_without_series_are_named(self, copied):
        root = copied("nci-isbi")
        shutil.rmtree(root / "manifest-1" / "PROSTATE-DIAGNOSIS" / "ProstateDx-01-0055")
        with pytest.raises(DataError, match="expected the DICOM series of ProstateDx-01-0055 beside its mask"):
            list_files(root)

    def test_images_and_masks_are_missed_one_by_one(self, copied, tmp_path):
        root = copied("nci-isbi")
        (root / "Training").rename(tmp_path / "away")
        with pytest.raises(DataError) as caught:
            list_files(root)
        assert (
            str(caught.value).splitlines()[0].startswith(f"{root}: expected the masks Prostate{{3T,Dx}}-0N-NNNN.nrrd")
        )
        shutil.rmtree(root / "manifest-1")
        with pytest.raises(DataError, match="expected Prostate3T-0N-NNNN/ and"):
            list_files(root)

    def test_a_patient_twice(self, copied):
        root = copied("nci-isbi")
        folder = root / "manifest-1" / "Prostate-3T" / "Prostate3T-01-0001"
        shutil.copytree(folder, root / "manifest-2" / "Prostate-3T" / "Prostate3T-01-0001")
        with pytest.raises(DataError, match="expected Prostate3T-01-0001/ once, found it in several folders"):
            list_files(root)
