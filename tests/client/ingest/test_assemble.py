"""Studies become cases: from tiny DICOM files and from image files."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.findings import make_finding
from prostafed.client.ingest.assemble import Assembled, Known, Wanted, assemble_files, assemble_study, measure_coverage
from prostafed.client.ingest.masks import MaskFiles
from prostafed.client.ingest.records import DicomStudy, Series
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.ingest.series_map import name_series
from prostafed.common.imaging.cases import Grid
from prostafed.common.imaging.resample import covered, lay_box, settle_center
from tests.client.ingest.tiny_study import GRID, PIXEL_MM, PIXELS, SLICE_MM, SLICES, make_study, save_study
from tests.simulations.dicom.calibration_study import Calibration, write_calibration_study

WANTED = Wanted(GRID, ("t2w", "adc", "hbv"))
KNOWN = Known("c1", "p1", "north")
NAME = partial(name_series, b"s" * 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    save_study(make_study(), folder)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> DicomStudy:
    (study,), _ = read_studies(folder)
    return study


def assemble(study: DicomStudy, known: Known = KNOWN, wanted: Wanted = WANTED) -> Assembled:
    return assemble_study(study, known, wanted, NAME)


def only(study: DicomStudy, *kinds: str) -> DicomStudy:
    return replace(study, series=tuple(each for each in study.series if each.kind in kinds))


def codes(assembled: Assembled) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in assembled.findings if each.code != "PIRADS_MINIMUM"]


def save_mask(path: Path, values: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    half = (PIXELS - 1) / 2 * PIXEL_MM
    image.SetSpacing((PIXEL_MM, PIXEL_MM, SLICE_MM))
    image.SetOrigin((-half, -half, 0.0))
    sitk.WriteImage(image, str(path))
    return path


def blob(value: int = 1) -> np.ndarray:
    mask = np.zeros((SLICES, PIXELS, PIXELS))
    mask[3:6, 12:20, 12:20] = value
    return mask


def both_zones() -> np.ndarray:
    zones = blob(1)
    zones[3:6, 12:20, 12:16] = 2
    return zones


def test_a_study_becomes_a_case(study: DicomStudy) -> None:
    assembled = assemble(study, replace(KNOWN, description={"psa": 4.5, "cspca": None}))
    assert codes(assembled) == []
    assert assembled.case is not None
    record, image, masks = assembled.case
    assert (record.case_id, record.patient_id, record.center, record.psa) == ("c1", "p1", "north", 4.5)
    assert record.sequences == {"t2w": "acquired", "adc": "vendor map", "hbv": "acquired b=1400"}
    assert (record.masks, record.source) == ((), "dicom")
    assert image.shape == (3, *GRID.size)
    assert (image.dtype, masks.dtype, masks.any()) == (np.float16, np.uint8, False)
    assert assembled.coverage == {"t2w": 1.0, "adc": 1.0, "hbv": 1.0}


def test_what_headers_said_is_filed_under_the_case(study: DicomStudy) -> None:
    said = replace(study, findings=(make_finding("-", "SEVERAL_PATIENTS", "expected one: found 2."),))
    assembled = assemble(said)
    assert assembled.case is None
    assert assembled.findings[0].text == "SEVERAL_PATIENTS case=c1: expected one: found 2."
    assert assembled.findings[0].severity == "F"


def test_a_generated_study_says_so(study: DicomStudy) -> None:
    assembled = assemble(replace(study, generated=True))
    assert assembled.case is not None
    assert assembled.case[0].source == "phantom"


def test_a_finding_of_a_series_names_it_by_pseudonym(study: DicomStudy) -> None:
    broken = [
        replace(each, slices=each.slices[:3] + each.slices[4:]) if each.kind == "adc" else each for each in study.series
    ]
    finding = next(each for each in assemble(replace(study, series=tuple(broken))).findings if each.severity == "S")
    adc = next(each for each in study.series if each.kind == "adc")
    assert finding.text.startswith(f"MISSING_SLICE case=c1: series {NAME(adc)}: expected slices every 3.00 mm")


def test_a_missing_sequence_refuses_unless_it_is_allowed(study: DicomStudy) -> None:
    lacking = only(study, "t2w")
    assert codes(assemble(lacking)) == [("NO_ADC", "F"), ("NO_HBV", "F")]
    assert assemble(lacking).case is None
    assembled = assemble(lacking, wanted=replace(WANTED, allow_missing=("adc", "hbv")))
    assert codes(assembled) == [("NO_ADC", "W"), ("NO_HBV", "W")]
    assert assembled.case is not None
    record, image, _ = assembled.case
    assert set(record.sequences) == {"t2w"}
    assert image[0].any()
    assert not image[1:].any()


def move(series: Series, x_mm: float) -> Series:
    places = [each.position_mm or (0.0, 0.0, 0.0) for each in series.slices]
    moved = [replace(each, position_mm=(x + x_mm, y, z)) for each, (x, y, z) in zip(series.slices, places, strict=True)]
    return replace(series, slices=tuple(moved))


def test_the_t2w_is_the_reference_even_where_it_is_not_wanted(study: DicomStudy) -> None:
    beside = replace(study, series=tuple(each if each.kind == "t2w" else move(each, 0.13) for each in study.series))
    assembled = assemble(beside, wanted=replace(WANTED, sequences=("hbv", "adc")))
    assert assembled.case is not None
    assert list(assembled.case[0].sequences) == ["hbv", "adc"]
    whole = assemble(beside).case
    assert whole is not None
    assert np.array_equal(assembled.case[1], whole[1][[2, 1]])
    assert codes(assemble(only(study, "adc", "dwi"), wanted=replace(WANTED, sequences=("adc",)))) == [("NO_T2", "F")]


def test_what_prepare_case_refuses_is_a_finding(study: DicomStudy) -> None:
    assembled = assemble(study, wanted=replace(WANTED, grid=Grid((3.0, 0.6, 0.6), (40, 24, 24))))
    assert codes(assembled) == [("LOW_OVERLAP", "F")]
    assert assembled.findings[-1].text.startswith("LOW_OVERLAP case=c1: expected t2w to cover")


# Masks


def with_masks(tmp_path: Path, cspca: bool | None = None, **masks: np.ndarray) -> Known:
    files = {name: save_mask(tmp_path / f"{name}.nii.gz", values) for name, values in masks.items()}
    return replace(KNOWN, description={"cspca": cspca}, masks=MaskFiles(files))


def test_masks_reach_the_case(study: DicomStudy, tmp_path: Path) -> None:
    assembled = assemble(study, with_masks(tmp_path, gland=blob(), zones=both_zones(), lesion=blob()))
    assert codes(assembled) == []
    assert assembled.case is not None
    record, _, masks = assembled.case
    assert record.masks == ("gland", "zones", "lesion")
    assert [int((mask > 0).sum()) for mask in masks] == [3 * 8 * 8] * 3
    assert sorted(np.unique(masks[1])) == [0, 1, 2]


def test_masks_are_held_against_each_other(study: DicomStudy, tmp_path: Path) -> None:
    mirrored = assemble(study, with_masks(tmp_path, gland=blob()[:, :, ::-1], lesion=blob()))
    assert codes(mirrored) == []  # in the middle: its mirror image is itself
    beside = np.roll(blob(), 5, axis=2)
    doubted = assemble(study, with_masks(tmp_path, gland=blob(), lesion=beside))
    assert codes(doubted) == [("MASK_SPACE", "W")]
    assert "lesion mask in the gland mask of the same study, found 38% of it there" in doubted.findings[-1].text
    assert doubted.case is not None
    assert codes(assemble(study, with_masks(tmp_path, zones=both_zones(), lesion=beside))) == [("MASK_SPACE", "W")]
    refused = assemble(study, with_masks(tmp_path, gland=blob(), zones=np.roll(both_zones(), 5, axis=2)))
    assert codes(refused) == [("MASK_SPACE", "F")]
    assert refused.case is None


@pytest.mark.parametrize(("zone", "missing"), [(1, "transition"), (2, "peripheral")])
def test_zones_of_which_one_was_not_drawn_are_a_warning(
    study: DicomStudy, tmp_path: Path, zone: int, missing: str
) -> None:
    zones = both_zones()
    zones[(zones != zone) | (np.indices(zones.shape)[1] > 17)] = 0  # less than half of the gland
    assembled = assemble(study, with_masks(tmp_path, gland=blob(), zones=zones))
    assert codes(assembled) == [("MASK_EMPTY", "W")]
    assert f"found no {missing} zone; draw it" in assembled.findings[-1].text
    assert assembled.case is not None
    assert assembled.case[0].masks == ("gland", "zones")


def test_zones_drawn_the_other_way_round(study: DicomStudy, tmp_path: Path) -> None:
    known = with_masks(tmp_path, zones=blob(1))
    assert known.masks is not None
    assembled = assemble(study, replace(known, masks=replace(known.masks, zones_coding="tz1_pz2")))
    assert assembled.case is not None
    assert sorted(np.unique(assembled.case[2][1])) == [0, 2]


@pytest.mark.parametrize(
    ("cspca", "value", "said", "delineated"),
    [
        (True, 1, [], ("lesion",)),
        (True, 0, [("LABEL_CONFLICT", "F")], None),
        (False, 0, [], ("lesion",)),
        (False, 1, [("LABEL_CONFLICT", "F")], None),
        (None, 1, [], ("lesion",)),
        (None, 0, [("MASK_EMPTY", "W")], ()),
    ],
)
def test_the_lesion_mask_and_the_label_agree(
    study: DicomStudy,
    tmp_path: Path,
    cspca: bool | None,
    value: int,
    said: list[tuple[str, str]],
    delineated: tuple[str, ...] | None,
) -> None:
    assembled = assemble(study, with_masks(tmp_path, cspca, lesion=blob(value)))
    assert codes(assembled) == said
    assert (assembled.case[0].masks if assembled.case else None) == delineated


def test_no_cancer_and_no_mask_is_an_empty_delineation(study: DicomStudy) -> None:
    assembled = assemble(study, replace(KNOWN, description={"cspca": False}))
    assert assembled.case is not None
    assert assembled.case[0].masks == ("lesion",)


def test_a_lesion_of_isup_1_is_no_cancer_that_counts(study: DicomStudy, tmp_path: Path) -> None:
    known = with_masks(tmp_path, False, lesion=blob(1))
    assert known.masks is not None
    assembled = assemble(study, replace(known, masks=replace(known.masks, lesion_coding="isup")))
    assert codes(assembled) == []
    assert assembled.case is not None
    assert not assembled.case[2].any()


def test_an_empty_gland_is_a_warning_and_not_delineated(study: DicomStudy, tmp_path: Path) -> None:
    assembled = assemble(study, with_masks(tmp_path, gland=blob(0)))
    assert codes(assembled) == [("MASK_EMPTY", "W")]
    assert assembled.case is not None
    assert assembled.case[0].masks == ()


def test_a_mask_drawn_on_an_image_that_is_not_there(study: DicomStudy, tmp_path: Path) -> None:
    known = with_masks(tmp_path, gland=blob())
    assert known.masks is not None
    known = replace(known, masks=replace(known.masks, space="dwi"))
    lacking = only(study, "t2w", "adc")
    assert ("MASK_SPACE", "F") in codes(assemble(lacking, known, replace(WANTED, allow_missing=("hbv",))))
    assert codes(assemble(study, known)) == []


def test_a_mask_file_that_is_not_there(study: DicomStudy, tmp_path: Path) -> None:
    known = replace(KNOWN, masks=MaskFiles({"gland": tmp_path / "Doe.nii.gz"}))
    assembled = assemble(study, known)
    assert codes(assembled) == [("UNREADABLE", "F")]
    assert "Doe" not in assembled.findings[-1].text


def test_coverage_is_that_of_the_box(study: DicomStudy) -> None:
    image = assemble(study).sources["t2w"].image
    grid = Grid((3.0, 0.1, 0.1), (10, 150, 170))  # larger than the image along z and x
    box = lay_box(image, grid, settle_center(None, image, grid))
    found = measure_coverage({"t2w": image}, image, None, grid)
    assert found["t2w"] == pytest.approx(covered(box, image).mean(), abs=0.03)
    assert measure_coverage({"t2w": image}, image, None, GRID) == {"t2w": 1.0}


# Calibration: known truth, four vendors, three formats of masks


@pytest.mark.parametrize("style", ["siemens", "ge", "philips", "uih", "enhanced"])
def test_a_calibration_study_gives_back_its_adc_and_its_masks(style: str, tmp_path: Path) -> None:
    calibration = write_calibration_study(tmp_path, style)
    (study,), _ = read_studies(calibration.folder)
    wanted = Wanted(Grid((3.0, 0.8, 0.8), (20, 160, 160)), ("t2w", "adc", "hbv"))
    cases = [
        assemble(study, describe_masks(calibration, suffix), wanted) for suffix in ("nii.gz", "seg.dcm", "rtstruct.dcm")
    ]
    assert all(codes(each) == [] for each in cases)
    for adc in (cases[0].sources["adc"].image, assemble(only(study, "t2w", "dwi"), wanted=wanted).sources["adc"].image):
        voxels = sitk.GetArrayViewFromImage(adc)
        for truth, center_mm in calibration.tubes:
            x, y, z = adc.TransformPhysicalPointToIndex(center_mm)
            assert voxels[z, y - 1 : y + 2, x - 1 : x + 2] == pytest.approx(truth, abs=20)
    drawn = [each.case[2] for each in cases if each.case]
    assert len(drawn) == 3
    assert np.array_equal(drawn[0], drawn[1])  # Dice 1.0
    assert np.array_equal(drawn[0], drawn[2])
    assert all(mask.any() for mask in drawn[0])
    truth_voxels = [np.count_nonzero(calibration.truth[name]) for name in ("gland", "zones", "lesion")]
    assert [np.count_nonzero(mask) for mask in drawn[0]] == truth_voxels


def describe_masks(calibration: Calibration, suffix: str) -> Known:
    files = {name: calibration.masks[f"{name}.{suffix}"] for name in ("gland", "zones", "lesion")}
    return replace(KNOWN, masks=MaskFiles(files))


# Image files


@pytest.fixture
def files(study: DicomStudy, tmp_path: Path) -> dict[str, Path]:
    paths = {}
    for name, source in assemble(study).sources.items():
        paths[name] = tmp_path / f"{name}.mha"
        sitk.WriteImage(source.image, str(paths[name]))
    return paths


def test_image_files_become_the_same_case(study: DicomStudy, files: dict[str, Path]) -> None:
    assembled, expected = assemble_files(files, KNOWN, WANTED), assemble(study)
    assert assembled.case is not None
    assert expected.case is not None
    assert np.array_equal(assembled.case[1], expected.case[1])
    assert assembled.case[0].sequences == dict.fromkeys(("t2w", "adc", "hbv"), "image file")
    assert assembled.case[0].source == "files"


def test_an_image_file_in_other_units(files: dict[str, Path]) -> None:
    adc = sitk.ReadImage(str(files["adc"]))
    sitk.WriteImage(adc * 1e-6, str(files["adc"]))
    rescaled = assemble_files(files, KNOWN, WANTED).sources["adc"].image
    assert sitk.GetArrayFromImage(rescaled) == pytest.approx(sitk.GetArrayFromImage(adc), rel=1e-5)
    sitk.WriteImage(adc * 1e-2, str(files["adc"]))
    assert codes(assemble_files(files, KNOWN, WANTED)) == [("ADC_UNITS", "F")]


def test_image_files_that_are_missing(files: dict[str, Path], tmp_path: Path) -> None:
    del files["hbv"]
    assert codes(assemble_files(files, KNOWN, WANTED)) == [("NO_HBV", "F")]
    allowed = assemble_files(files, KNOWN, replace(WANTED, allow_missing=("hbv",)))
    assert codes(allowed) == [("NO_HBV", "W")]
    assert allowed.case is not None
    assert codes(assemble_files({**files, "t2w": tmp_path / "gone.mha"}, KNOWN, WANTED))[0] == ("UNREADABLE", "F")
    assert codes(assemble_files({"adc": files["adc"]}, KNOWN, Wanted(GRID, ("adc",)))) == [("NO_T2", "F")]


@pytest.mark.data
def test_the_real_study_as_dicom_and_as_mha_is_one_case(data_folder: Path) -> None:
    (study,), _ = read_studies(data_folder / "prostatex_dicom")
    wanted = Wanted(Grid((3.0, 0.5, 0.5), (20, 256, 256)), ("t2w", "adc", "hbv"))
    mha = {name: data_folder / f"picai_layout/images/11373/11373_1001396_{name}.mha" for name in wanted.sequences}
    dicom, files = assemble(study, wanted=wanted), assemble_files(mha, KNOWN, wanted)
    assert dicom.case is not None
    assert files.case is not None
    assert dicom.case[0].sequences["hbv"] == "scanner-calculated b=1000"
    for ours, theirs in zip(dicom.case[1].astype(np.float32), files.case[1].astype(np.float32), strict=True):
        assert np.abs(ours - theirs).max() < 0.01 * np.ptp(theirs)  # measured: 0
