"""The importer: on a tiny layout made here, and on two real studies (marked data)."""

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import open_case_folder, write_case
from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.intensity import normalise
from prostafed.simulations.datasets.picai import list_studies
from tests.simulations.datasets.layouts import load, make_images, make_masks, save

GRID = Grid((3.0, 1.0, 1.0), (4, 12, 12))
FULL = Grid((3.0, 0.5, 0.5), (20, 256, 256))
SEQUENCES = ("t2w", "adc", "hbv")
EXPERT = "csPCa_lesion_delineations/human_expert/resampled"
POOCH = "csPCa_lesion_delineations/human_expert/Pooch25"
GLAND = "anatomical_delineations/whole_gland/AI/Bosma22b"
ZONES = "anatomical_delineations/zonal_pz_tz/AI/HeviAI23"
SHEET = """patient_id,study_id,patient_age,psa,prostate_volume,lesion_PIRADS,case_ISUP,case_csPCa,center
2,20,60,4.5,30,4,3,YES,RUMC
1,10,70,,,,0,NO,PCNN
"""


def write(root: Path) -> None:
    """1_10 without csPCa, 2_20 with, of two centres, and a split of two folds."""
    labels = root / "labels"
    for patient, case, lesion in (("1", "1_10", False), ("2", "2_20", True)):
        for name, voxels in make_images(int(patient), lesion).items():
            save(root / "images" / patient / f"{case}_{name}.mha", voxels)
        masks = make_masks(lesion)
        save(labels / "anatomical_delineations/whole_gland/AI/Bosma22b" / f"{case}.nii.gz", masks["gland"])
        save(labels / "anatomical_delineations/zonal_pz_tz/AI/HeviAI23" / f"{case}.nii.gz", masks["zones"])
        part = labels / "csPCa_lesion_delineations/human_expert/resampled"
        save(part / f"{case}.nii.gz", masks["lesion"] * 3)
    (labels / "clinical_information").mkdir()
    (labels / "clinical_information" / "marksheet.csv").write_text(
        "patient_id,study_id,case_ISUP,case_csPCa,center\n1,10,0,NO,RUMC\n2,20,3,YES,ZGT\n"
    )
    (root / "picai_splits.json").write_text(
        '[{"train": ["1_10"], "val": ["2_20"]}, {"train": ["2_20"], "val": ["1_10"]}]'
    )


def _save(path, voxels, origin=(0.0, 0.0, 0.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.0, 1.0, 3.0))
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))


def _block(value):
    voxels = np.zeros((4, 16, 16), np.uint8)
    voxels[1:3, 6:10, 6:10] = value
    return voxels


@pytest.fixture
def root(tmp_path):
    """Two studies: 2_20 positive with all masks, 1_10 negative with a gland; the hbv's grid is half a voxel off."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "marksheet.csv").write_text(SHEET)
    rng = np.random.default_rng(0)
    for patient, case in (("1", "1_10"), ("2", "2_20")):
        for name in SEQUENCES:
            voxels = rng.integers(1, 1000, (4, 17, 17)).astype(np.int16)
            origin = (-0.5, -0.5, 0.0) if name == "hbv" else (0.0, 0.0, 0.0)
            _save(tmp_path / "images" / patient / f"{case}_{name}.mha", voxels, origin)
        _save(tmp_path / "labels" / GLAND / f"{case}.nii.gz", _block(1))
    _save(tmp_path / "labels" / ZONES / "2_20.nii.gz", _block(2))
    _save(tmp_path / "labels" / EXPERT / "2_20.nii.gz", _block(3).astype(np.float64))
    return tmp_path


def _import(root, sequences=SEQUENCES, **options):
    return {
        record.case_id: (record, image, masks)
        for record, image, masks in load("picai", root, GRID, sequences, **options)
    }


class TestImport:
    def test_record_image_and_masks(self, root):
        cases = _import(root)
        assert list(cases) == ["1_10", "2_20"]
        record, image, masks = cases["2_20"]
        assert (record.center, record.cspca, record.isup, record.pirads_reads) == ("RUMC", True, 3, (4,))
        assert (record.age, record.psa, record.prostate_volume, record.source) == (60, 4.5, 30, "picai")
        assert record.masks == ("gland", "zones", "lesion")
        assert tuple(record.sequences) == SEQUENCES
        assert (image.shape, image.dtype, masks.shape, masks.dtype) == (
            (3, 4, 12, 12),
            np.float16,
            (3, 4, 12, 12),
            np.uint8,
        )
        # The gland, rows and columns 6 to 9, is in the middle of 12 voxels from 2 on.
        for found, value in zip(masks, (1, 2, 1), strict=True):
            np.testing.assert_array_equal(found, _block(value)[:, 2:14, 2:14])
        for channel, name in zip(image[:2], SEQUENCES[:2], strict=True):
            voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(root / f"images/2/2_20_{name}.mha")))
            np.testing.assert_allclose(channel, normalise(voxels[:, 2:14, 2:14].astype(np.float32)), atol=2e-3)

    def test_a_negative_study_needs_no_lesion_mask(self, root):
        record, _, masks = _import(root)["1_10"]
        assert record.masks == ("gland", "lesion")
        assert not masks[1:].any()

    def test_pooch25_fills_in_for_a_missing_expert_mask(self, root):
        _save(root / "labels" / POOCH / "2_20.nii.gz", np.where(_block(1), np.arange(16) < 8, 0).astype(np.uint8))
        assert _import(root)["2_20"][2][2].sum() == 32
        (root / "labels" / EXPERT / "2_20.nii.gz").unlink()
        record, _, masks = _import(root)["2_20"]
        assert "lesion" in record.masks
        assert masks[2].sum() == 16

    def test_a_positive_study_without_a_lesion_mask_is_not_delineated(self, root):
        (root / "labels" / EXPERT / "2_20.nii.gz").unlink()
        assert _import(root)["2_20"][0].masks == ("gland", "zones")

    def test_an_empty_gland_is_no_delineation(self, root):
        _save(root / "labels" / GLAND / "2_20.nii.gz", _block(0))
        assert _import(root)["2_20"][0].masks == ("zones", "lesion")

    def test_only_the_sequences_asked_in_their_order(self, root):
        whole, part = _import(root), _import(root, ("hbv", "adc"))
        record, image, _ = part["2_20"]
        assert tuple(record.sequences) == ("hbv", "adc")
        np.testing.assert_array_equal(image, whole["2_20"][1][[2, 1]])

    def test_generated_studies_are_called_that(self, root):
        assert _import(root)["2_20"][0].source == "picai"
        (root / "GENERATED.json").write_text("{}")
        record = _import(root)["2_20"][0]
        assert (record.source, set(record.sequences.values())) == ("phantom", {"generated"})

    def test_a_centre_alone(self, root):
        assert list(_import(root, centers=("PCNN",))) == ["1_10"]
        assert list(_import(root, centers=("PCNN", "RUMC"))) == ["1_10", "2_20"]

    @pytest.mark.parametrize(
        "place", ["labels/clinical_information/marksheet.csv", "marksheet.csv", "clinical_information_2cases.csv"]
    )
    @pytest.mark.parametrize("labels", ["labels", "picai_labels", "."])
    def test_tables_and_labels_may_lie_in_several_places(self, root, place, labels):
        (root / place).parent.mkdir(exist_ok=True)
        (root / "labels" / "marksheet.csv").rename(root / place)
        if labels != "labels":
            (root / labels).mkdir(exist_ok=True)
            for name in ("anatomical_delineations", "csPCa_lesion_delineations"):
                (root / "labels" / name).rename(root / labels / name)
        assert _import(root)["2_20"][0].masks == ("gland", "zones", "lesion")


class TestListStudies:
    def test_looks_at_no_image(self, root):
        shutil.rmtree(root / "images")
        assert [record.case_id for record in list_studies(root)] == ["1_10", "2_20"]

    def test_reads_of_several_readers_replace_that_of_the_marksheet(self, root):
        (root / "labels" / "reads.csv").write_text(
            "case_id,lesion_id,reader_id,pirads\n2_20,1,b,3\n2_20,1,a,5\n2_20,2,b,4\n"
        )
        negative, positive = list_studies(root)
        assert positive.pirads_reads == (5, 4)
        assert negative.pirads_reads == ()

    def test_an_unknown_centre_lists_the_known(self, root):
        with pytest.raises(DataError, match=r"no study of center 'RUMCC'; did you mean 'RUMC'\? Valid: PCNN, RUMC"):
            _import(root, centers=("RUMCC",))

    def test_no_marksheet(self, root):
        (root / "labels" / "marksheet.csv").unlink()
        with pytest.raises(DataError, match=r"expected clinical_information/marksheet.csv, .*clone that into labels/"):
            list_studies(root)

    def test_two_marksheets(self, root):
        (root / "clinical_information_a.csv").write_text(SHEET)
        (root / "clinical_information_b.csv").write_text(SHEET)
        with pytest.raises(DataError, match=r"found clinical_information_a\.csv, clinical_information_b\.csv\. Keep"):
            list_studies(root)


class TestErrors:
    @pytest.mark.parametrize(("name", "code"), [("t2w", "NO_T2"), ("adc", "NO_ADC"), ("hbv", "NO_HBV")])
    def test_a_missing_image_names_itself(self, root, name, code):
        (root / f"images/2/2_20_{name}.mha").unlink()
        with pytest.raises(
            DataError, match=rf"^{code} case=2_20: expected images/2/2_20_{name}.mha, found no .*; unpack"
        ):
            _import(root)

    def test_a_sequence_nobody_asked_for_may_be_missing(self, root):
        (root / "images/2/2_20_hbv.mha").unlink()
        assert len(_import(root, ("t2w", "adc"))) == 2

    @pytest.mark.parametrize("path", ["images/2/2_20_adc.mha", f"labels/{GLAND}/2_20.nii.gz"])
    def test_an_unreadable_file(self, root, path):
        (root / path).write_bytes(b"no image")
        with pytest.raises(DataError) as caught:
            _import(root)
        assert str(caught.value).startswith(f"UNREADABLE case=2_20: expected an image in {Path(path).name}")
        assert str(root) not in str(caught.value)

    def test_on_error_decides_to_leave_a_study_out(self, root):
        (root / "images/1/1_10_t2w.mha").unlink()
        errors = []
        assert list(_import(root, on_error=errors.append)) == ["2_20"]
        assert [str(error).split(":")[0] for error in errors] == ["NO_T2 case=1_10"]

    def test_the_consumers_own_error_is_not_swallowed(self, root):
        errors = []
        cases = load("picai", root, GRID, SEQUENCES, on_error=errors.append)
        next(cases)
        with pytest.raises(DataError, match="disk full"):
            cases.throw(DataError("disk full"))
        assert not errors

    @pytest.mark.parametrize(("value", "found"), [(0, "YES without one"), (None, "NO with a lesion")])
    def test_marksheet_and_mask_that_contradict_each_other(self, root, value, found):
        case = "2_20" if value == 0 else "1_10"
        _save(root / "labels" / EXPERT / f"{case}.nii.gz", _block(3 if value is None else value))
        with pytest.raises(DataError, match=rf"^LABEL_CONFLICT case={case}: .* found {found};"):
            _import(root)

    def test_a_refusal_of_the_geometry_goes_the_same_way(self, root):
        _save(root / "labels" / ZONES / "2_20.nii.gz", _block(3))
        errors = []
        assert list(_import(root, on_error=errors.append)) == ["1_10"]
        assert str(errors[0]).startswith("MASK_LABEL case=2_20")

    def test_no_labels(self, root):
        (root / "labels" / "marksheet.csv").rename(root / "marksheet.csv")
        shutil.rmtree(root / "labels")
        with pytest.raises(DataError, match=r"expected the masks in labels/ or picai_labels/.*Clone"):
            load("picai", root, GRID, SEQUENCES)

    def test_tables_are_checked_at_the_call(self, root):
        (root / "labels" / "marksheet.csv").write_text(SHEET.replace("4.5", "<4"))
        with pytest.raises(DataError, match=r"marksheet.csv: line 2, column psa"):
            load("picai", root, GRID, SEQUENCES)

    def test_an_unknown_sequence(self, root):
        with pytest.raises(DataError, match="no sequence 'cor'"):
            load("picai", root, GRID, ("t2w", "cor"))


@pytest.fixture(scope="session")
def real_root(data_folder):
    folder = data_folder / "picai_layout"
    if not folder.is_dir():
        pytest.skip(f"no picai_layout/ in {data_folder}")
    return folder


@pytest.fixture(scope="session")
def real_cases(real_root):
    return {case[0].case_id: case for case in load("picai", real_root, FULL, SEQUENCES)}


@pytest.fixture
def real_copy(real_root, tmp_path):
    """A copy that tests may break; only what the importer reads."""
    for path in real_root.rglob("*"):
        if path.is_file() and not path.stem.endswith(("_sag", "_cor")):
            copy = tmp_path / path.relative_to(real_root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return tmp_path


def _millilitres(mask, grid=FULL):
    return np.count_nonzero(mask) * np.prod(grid.spacing_mm) / 1000


def _source(root, folder, case_id):
    return sitk.ReadImage(str(root / "labels" / folder / f"{case_id}.nii.gz"))


@pytest.mark.data
class TestRealStudies:
    def test_both_come_with_their_records(self, real_cases):
        assert list(real_cases) == ["10795_1000811", "11373_1001396"]
        negative, positive = (case[0] for case in real_cases.values())
        assert (negative.center, negative.cspca, negative.isup, negative.pirads_reads) == ("RUMC", False, 1, (4,))
        assert (positive.cspca, positive.isup, positive.psa, positive.prostate_volume) == (True, 3, 13, 52)
        assert negative.masks == positive.masks == ("gland", "zones", "lesion")

    def test_images_are_normalised_and_finite(self, real_cases):
        for _, image, _ in real_cases.values():
            assert np.isfinite(image).all()
            acquired = image[:, [plane for plane in range(20) if np.ptp(image[0, plane]) > 0]].astype(np.float32)
            assert acquired.shape[1] == 19
            np.testing.assert_allclose(acquired.mean(axis=(1, 2, 3)), 0, atol=0.01)
            np.testing.assert_allclose(acquired.std(axis=(1, 2, 3)), 1, atol=0.01)

    def test_volumes_are_those_of_the_masks_and_near_those_of_the_marksheet(self, real_root, real_cases):
        for case_id, (record, _, masks) in real_cases.items():
            source = _source(real_root, GLAND, case_id)
            before = np.count_nonzero(sitk.GetArrayFromImage(source)) * np.prod(source.GetSpacing()) / 1000
            assert _millilitres(masks[0]) == pytest.approx(before, rel=0.01)
            assert _millilitres(masks[0]) == pytest.approx(record.prostate_volume, rel=0.16)  # 15.2 % and 14.8 % off
            assert _millilitres(masks[1]) == pytest.approx(_millilitres(masks[0]), rel=0.2)

    def test_lesion_and_zones_lie_in_the_gland(self, real_cases):
        _, _, masks = real_cases["11373_1001396"]
        gland, zones, lesion = (mask > 0 for mask in masks)
        assert (lesion & gland).sum() / lesion.sum() > 0.95
        assert _millilitres(lesion) == pytest.approx(0.31, abs=0.01)
        assert not real_cases["10795_1000811"][2][2].any()
        for _, _, each in real_cases.values():
            gland, zones = each[0] > 0, each[1] > 0
            assert 2 * (gland & zones).sum() / (gland.sum() + zones.sum()) > 0.85
        assert gland.any()
        assert zones.any()

    def test_the_gland_is_in_the_middle(self, real_cases):
        for _, _, masks in real_cases.values():
            center = np.argwhere(masks[0]).mean(axis=0)
            np.testing.assert_allclose(center[1:], 127.5, atol=1)  # z: the box is longer than the scan

    def test_signals_look_like_anatomy(self, real_cases):
        """The peripheral zone has the higher ADC of the two; the lesion is dark on ADC and bright at high b."""
        for _, image, masks in real_cases.values():
            pz, tz = (image[:, masks[1] == zone].astype(np.float32).mean(axis=1) for zone in (1, 2))
            assert pz[1] > tz[1]
        _, image, masks = real_cases["11373_1001396"]
        _, adc, hbv = (image[:, masks[2] > 0].astype(np.float32).mean(axis=1)).tolist()
        _, pz_adc, pz_hbv = image[:, (masks[1] == 1) & (masks[2] == 0)].astype(np.float32).mean(axis=1).tolist()
        assert adc < pz_adc - 0.3
        assert hbv > pz_hbv + 0.3

    def test_a_small_grid(self, real_root):
        grid = Grid((3.6, 1.5, 1.5), (12, 48, 48))
        _, (_, image, masks) = load("picai", real_root, grid, SEQUENCES)
        assert image.shape == (3, 12, 48, 48)
        assert _millilitres(masks[0], grid) == pytest.approx(44.3, rel=0.1)
        assert _millilitres(masks[2], grid) == pytest.approx(0.31, rel=0.3)

    def test_they_survive_the_case_folder(self, real_cases, tmp_path):
        for record, image, masks in real_cases.values():
            write_case(tmp_path, record, image, masks, FULL, SEQUENCES)
        cases = open_case_folder(tmp_path)
        assert cases.records == tuple(case[0] for case in real_cases.values())
        np.testing.assert_array_equal(cases.load(1)[0], real_cases["11373_1001396"][1])

    def test_a_missing_adc(self, real_copy):
        (real_copy / "images/10795/10795_1000811_adc.mha").unlink()
        with pytest.raises(DataError, match=r"^NO_ADC case=10795_1000811: expected images/10795/10795_1000811_adc.mha"):
            list(load("picai", real_copy, FULL, SEQUENCES))
        errors = []
        (left,) = load("picai", real_copy, FULL, SEQUENCES, on_error=errors.append)
        assert left[0].case_id == "11373_1001396"
        assert len(errors) == 1

    def test_masks_on_another_grid_come_out_nearly_the_same(self, real_copy, real_cases):
        case_id = "11373_1001396"
        adc = sitk.ReadImage(str(real_copy / f"images/11373/{case_id}_adc.mha"))
        for folder, interpolator in ((GLAND, sitk.sitkNearestNeighbor), (ZONES, sitk.sitkNearestNeighbor)):
            mask = sitk.Resample(_source(real_copy, folder, case_id), adc, sitk.Transform(), interpolator, 0)
            assert mask.GetSize() == (84, 128, 19)
            sitk.WriteImage(mask, str(real_copy / "labels" / folder / f"{case_id}.nii.gz"))
        *_, (_, _, masks) = load("picai", real_copy, FULL, SEQUENCES)
        expected = real_cases[case_id][2]
        for channel, least in ((0, 0.95), (1, 0.93)):
            one, other = masks[channel] > 0, expected[channel] > 0
            assert 2 * (one & other).sum() / (one.sum() + other.sum()) > least

    def test_a_mask_of_the_other_patient(self, real_copy):
        labels = real_copy / "labels" / GLAND
        mask = sitk.ReadImage(str(labels / "11373_1001396.nii.gz"))
        mask.SetOrigin((mask.GetOrigin()[0] + 250, *mask.GetOrigin()[1:]))
        sitk.WriteImage(mask, str(labels / "11373_1001396.nii.gz"))
        with pytest.raises(DataError, match=r"^MASK_SPACE case=11373_1001396: .* gland mask"):
            list(load("picai", real_copy, FULL, SEQUENCES))

    def test_a_wrong_marksheet_value(self, real_copy):
        path = real_copy / "clinical_information_2cases.csv"
        path.write_text(path.read_text().replace(",4,4+3,", ",6,4+3,"))
        with pytest.raises(DataError) as caught:
            list_studies(real_copy)
        assert str(caught.value) == (
            "clinical_information_2cases.csv: line 3, column lesion_PIRADS: expected scores 1 to 5 or N/A, separated "
            "by commas, or blank, found '6'."
        )


@pytest.mark.data
def test_the_whole_marksheet_is_read(data_folder):
    folder = data_folder / "picai_labels"
    if not folder.is_dir():
        pytest.skip(f"no picai_labels/ in {data_folder}")
    records = list_studies(folder)
    assert len(records) == 1500
    assert sum(bool(record.cspca) for record in records) == 425
    assert Counter(record.center for record in records) == {"RUMC": 800, "ZGT": 350, "PCNN": 350}
    with (folder / "clinical_information" / "marksheet.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            scores = [int(score) for score in row["lesion_PIRADS"].split(",") if score not in {"", "N/A"}]
            record = next(each for each in records if each.case_id == f"{row['patient_id']}_{row['study_id']}")
            assert record == replace(record, pirads_reads=(max(scores),) if scores else (), isup=int(row["case_ISUP"]))
