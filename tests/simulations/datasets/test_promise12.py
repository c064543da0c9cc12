"""PROMISE12: where training cases lie, and whose geometry counts."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import DataError
from prostafed.simulations.datasets.promise12 import list_files
from tests.simulations.datasets import layouts
from tests.simulations.datasets.layouts import GRID, make_images, make_masks, save


def write(root: Path) -> None:
    """Case00 and Case01 of the training part, and a Case00 of the test part, another patient."""
    for number in (0, 1):
        save(root / "training_data" / f"Case{number:02d}.mhd", make_images(number)["t2w"].astype(np.int16))
        save(root / "training_data" / f"Case{number:02d}_segmentation.mhd", make_masks()["gland"].astype(np.int8))
    save(root / "test_data" / "Case00.mhd", make_images(9)["t2w"])


def load(root):
    return list(layouts.load("promise12", root, GRID, ("t2w",)))


def test_test_cases_are_other_patients_of_the_same_numbers(written):
    studies = list_files(written("promise12"))
    assert [study.record.case_id for study in studies] == ["Case00", "Case01"]
    assert {study.images["t2w"].parent.name for study in studies} == {"training_data"}


def test_cases_may_lie_in_the_root_or_in_several_parts(copied, tmp_path):
    root = copied("promise12")
    (root / "training_data").rename(root / "TrainingData_Part1")
    (root / "TrainingData_Part2").mkdir()
    for path in (root / "TrainingData_Part1").glob("Case01*"):
        path.rename(root / "TrainingData_Part2" / path.name)
    assert len(load(root)) == 2
    assert len(load(root / "TrainingData_Part1")) == 1


def test_a_case_in_two_parts(copied):
    root = copied("promise12")
    shutil.copytree(root / "training_data", root / "training_copy")
    with pytest.raises(DataError, match=r"expected Case00\.mhd once, found it in several folders"):
        list_files(root)


def test_the_mask_lies_on_the_voxels_of_its_image_whatever_its_own_header_says(copied):
    root = copied("promise12")
    path = root / "training_data" / "Case00_segmentation.mhd"
    text = path.read_text()
    assert "Offset = -20 -30 0" in text
    path.write_text(text.replace("Offset = -20 -30 0", "Offset = 500 0 0"))
    np.testing.assert_array_equal(load(root)[0][2][0], make_masks()["gland"][1:7, 8:32, 8:32])


@pytest.mark.parametrize("name", ["Case01.raw", "Case01_segmentation.mhd", "Case01_segmentation.raw", "Case01.mhd"])
def test_a_missing_part_is_named(copied, name):
    root = copied("promise12")
    (root / "training_data" / name).unlink()
    with pytest.raises(DataError, match=f"expected {name} of Case01, found no such file"):
        list_files(root)
