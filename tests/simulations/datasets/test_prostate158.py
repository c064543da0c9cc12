"""Prostate158: reversed zones, cancer of two codes, blank cells and empty masks, tables in several places."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.simulations.datasets.prostate158 import list_files
from tests.simulations.datasets import layouts
from tests.simulations.datasets.layouts import GRID, SEQUENCES, make_images, make_masks, save


def write(root: Path) -> None:
    """020 with cancer, 024 without, 030 with cancer drawn on the T2 alone; 001 of the test part has two readers."""
    for part, table, number, cancer in (
        ("train", "train", 24, False),
        ("train", "train", 30, True),
        ("train", "valid", 20, True),
        ("test", "test", 1, True),
    ):
        folder = root / f"prostate158_{part}"
        case, masks = f"{part}/{number:03d}", make_masks()
        images = make_images(number, lesion=cancer)
        names = {"t2": images["t2w"], "adc": images["adc"], "dwi": images["hbv"]}
        names["t2_anatomy_reader1"] = (masks["zones"] > 0) * (3 - masks["zones"])  # 1 = TZ, 2 = PZ
        if cancer:
            names["t2_tumor_reader1"] = masks["lesion"] * 3
            names["adc_tumor_reader1"] = masks["lesion"]
        else:
            names["empty"] = masks["lesion"] * 0
        if number == 30:
            del names["adc_tumor_reader1"]
        if part == "test":
            names["t2_anatomy_reader2"] = names["t2_anatomy_reader1"]
            names["adc_tumor_reader2"] = masks["lesion"] * 0
        for name, voxels in names.items():
            save(folder / case / f"{name}.nii.gz", voxels.astype(np.float32))
        columns = ["ID", "t2", "adc", "dwi", "t2_anatomy_reader1", "t2_tumor_reader1", "adc_tumor_reader1"]
        columns += ["t2_anatomy_reader2", "adc_tumor_reader2"]
        cells = {name: f"{case}/{name}.nii.gz" for name in names} | {"ID": str(number)}
        if not cancer:
            cells |= dict.fromkeys(("t2_tumor_reader1", "adc_tumor_reader1"), f"{case}/empty.nii.gz")
        path = folder / f"{table}.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(cells)


def load(root, sequences=SEQUENCES, **options):
    return {case[0].case_id: case for case in layouts.load("prostate158", root, GRID, sequences, **options)}


def test_zones_are_turned_round(written):
    for _, _, masks in load(written("prostate158")).values():
        np.testing.assert_array_equal(masks[1], make_masks()["zones"][1:7, 8:32, 8:32])


@pytest.mark.parametrize(("case", "cancer"), [("001", True), ("020", True), ("024", False), ("030", True)])
def test_cancer_is_where_the_first_reader_drew_it(written, case, cancer):
    """1 on the ADC, 3 on the T2, empty.nii.gz for none; the second reader of 001 saw nothing, which does not count."""
    record, _, masks = load(written("prostate158"))[case]
    assert (record.cspca, record.isup, record.pirads_reads) == (cancer, None, ())
    assert record.masks == ("gland", "zones", "lesion")
    np.testing.assert_array_equal(masks[2], make_masks(cancer)["lesion"][1:7, 8:32, 8:32])


def test_a_blank_cell_says_nothing(copied):
    root = copied("prostate158")
    path = root / "prostate158_train" / "train.csv"
    path.write_text(path.read_text().replace("train/024/empty.nii.gz", ""))
    record, _, _ = load(root)["024"]
    assert record.cspca is None
    assert record.masks == ("gland", "zones")


def test_an_image_that_is_not_in_the_table_may_be_allowed_to_be_missing(copied):
    root = copied("prostate158")
    path = root / "prostate158_train" / "train.csv"
    path.write_text(path.read_text().replace("train/024/dwi.nii.gz", ""))
    with pytest.raises(DataError, match=r"^NO_HBV case=024: expected hbv, found none"):
        load(root)
    record, image, _ = load(root, allow_missing=("hbv",))["024"]
    assert tuple(record.sequences) == ("t2w", "adc")
    assert not image[2].any()


def test_dwi_is_the_high_b_image(written):
    _, image, masks = load(written("prostate158"))["020"]
    lesion, rest = (image[:, each].astype(float).mean(axis=1) for each in (masks[2] > 0, masks[2] == 0))
    assert lesion[1] < rest[1]
    assert lesion[2] > rest[2] + 2


@pytest.mark.parametrize("place", [".", "Prostate158", "a/prostate158_train"])
def test_tables_may_lie_in_several_places(written, tmp_path, place):
    shutil.copytree(written("prostate158") / "prostate158_train", tmp_path / place, dirs_exist_ok=True)
    assert list(load(tmp_path)) == ["020", "024", "030"]


def test_paths_may_be_relative_to_the_root_instead(copied):
    root = copied("prostate158")
    for name in ("train.csv", "valid.csv"):
        (root / "prostate158_train" / name).rename(root / "prostate158_train" / "train" / name)
    assert len(load(root / "prostate158_train")) == 3


class TestMistakes:
    @pytest.fixture
    def table(self, copied):
        return copied("prostate158") / "prostate158_train" / "train.csv"

    @pytest.mark.parametrize(
        ("good", "bad", "said"),
        [
            ("train/024/t2.nii.gz", "../024/t2.nii.gz", r"line 2, column t2: expected a relative path"),
            ("train/024/t2.nii.gz", "/train/t2.nii.gz", r"line 2, column t2: expected a relative path"),
            ("train/024/t2.nii.gz", "", r"line 2, column t2: expected a relative path"),
            ("\n24,", "\nabc,", r"line 2, column ID: expected the number of the study, 1 to 999, found 'abc'"),
            ("\n24,", "\n20,", r"valid\.csv: line 2: expected every study once, found 020 again"),
            ("024/empty", "024/full", r"train\.csv: line 2: expected the file .*train/024/full\.nii\.gz, found none"),
            ("ID,t2", "ID,T2", r"expected the columns ID, t2, found no t2"),
        ],
    )
    def test_a_wrong_table_is_named(self, table, good, bad, said):
        assert good in table.read_text()
        table.write_text(table.read_text().replace(good, bad))
        with pytest.raises(DataError, match=said):
            list_files(table.parents[1])

    def test_a_table_twice(self, table):
        shutil.copy(table, table.parents[1])
        with pytest.raises(
            DataError, match=r"expected train\.csv once, found prostate158_train/train\.csv, train\.csv"
        ):
            list_files(table.parents[1])

    def test_a_missing_image(self, table):
        (table.parent / "train/024/adc.nii.gz").unlink()
        with pytest.raises(
            DataError, match=r"^NO_ADC case=024: expected prostate158_train/train/024/adc\.nii\.gz, found"
        ):
            load(table.parents[1])

    def test_a_zone_that_does_not_exist(self, table):
        path = table.parent / "train/024/t2_anatomy_reader1.nii.gz"
        sitk.WriteImage(sitk.ReadImage(str(path)) * 2, str(path))
        with pytest.raises(DataError, match=r"^MASK_LABEL case=024: expected \[1, 2\] in the zones mask, found 4"):
            load(table.parents[1])
