"""Tubes of known ADC come back as what they are, from every style, by the scanner's map and by the fit."""

import shutil

import numpy as np
import pytest

from prostafed.client.ingest.images.sources import find_sources
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.client.manifest import read_manifest
from prostafed.client.manifest.rows import TABLES
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.imaging.cases import Grid
from prostafed.common.shell.tables import write_table
from prostafed.simulations.dicom.styles import STYLES

GRID = Grid((3.0, 0.8, 0.8), (20, 120, 120))
TOLERANCE = 20  # 1e-6 mm2/s


def look(image, at):
    """The mean over 3 x 3 x 3 voxels about a position in mm."""
    x, y, z = image.TransformPhysicalPointToIndex([float(each) for each in at])
    region = image[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2]
    return float(np.mean([region[i, j, k] for i in range(3) for j in range(3) for k in range(3)]))


def sources_of(study):
    problems = []
    found = find_sources(study.series, ("t2w", "adc", "hbv"), (), lambda error, series: problems.append(error))
    assert problems == []
    return found


SETTINGS = [
    *((style, settings) for style in STYLES for settings in ({}, {"with_adc": False})),
    ("philips", {"with_adc": False, "noise": 0.02}),
]


@pytest.mark.parametrize(("style", "settings"), SETTINGS, ids=str)
def test_ingestion_returns_the_adc_and_the_high_b(style, settings, calibrate, read_study):
    calibration = calibrate(style, **settings)
    found = sources_of(read_study(calibration.folder))
    assert found["adc"].text == ("vendor map" if not settings else "fitted b=50,400,800")
    assert found["hbv"].text == "acquired b=1400"
    tubes = [adc for adc, _ in calibration.tubes]
    assert tubes == [700, 1300, 1700]
    for adc, at in calibration.tubes:
        assert look(found["adc"].image, at) == pytest.approx(adc, abs=TOLERANCE)
        # Rician noise lifts the faintest tube by 2 %.
        expected = 3000 * np.exp(-1400e-6 * adc)
        assert look(found["hbv"].image, at) == pytest.approx(expected, rel=0.08 if "noise" in settings else 0.003)
    background = calibration.tubes[2][1] - np.array([30.0, 0.0, 0.0])
    assert look(found["adc"].image, background) == pytest.approx(1000, abs=TOLERANCE)


@pytest.mark.parametrize("style", ["siemens", "enhanced"])
def test_a_case_is_the_same_with_masks_in_any_format(style, calibrate, tmp_path):
    calibration = calibrate(style)
    cases = []
    for suffix in ("nii.gz", "seg.dcm", "rtstruct.dcm"):
        manifest = write_manifest(calibration, tmp_path / suffix.split(".")[0], suffix)
        request = IndexRequest(
            dicom=calibration.folder,
            out=tmp_path / f"cases {suffix}",
            secret=b"s" * 32,
            grid=GRID,
            sequences=("t2w", "adc", "hbv"),
            manifest=read_manifest(manifest),
            manifest_folder=manifest,
            workers=1,
        )
        said = index_site(request)
        assert {study["status"] for study in said["studies"]} <= {"ready", "warning"}, said
        folder = open_case_folder(request.out)
        (record,) = folder.records
        assert (record.source, record.masks, record.cspca) == ("phantom", ("gland", "zones", "lesion"), True)
        cases.append(folder.load(0))
    for image, masks in cases[1:]:
        np.testing.assert_array_equal(image, cases[0][0])
        np.testing.assert_array_equal(masks, cases[0][1])
    voxel_ml = np.prod(GRID.spacing_mm) / 1000
    truth_ml = {name: mask.sum() * 3 * 0.8 * 0.8 / 1000 for name, mask in calibration.truth.items() if name != "zones"}
    assert cases[0][1][0].sum() * voxel_ml == pytest.approx(truth_ml["gland"], rel=0.01)
    assert cases[0][1][2].sum() * voxel_ml == pytest.approx(truth_ml["lesion"], rel=0.03)


def write_manifest(calibration, folder, suffix):
    folder.mkdir()
    row = {
        "case_id": "calibration", "patient_key": "generated", "dicom_dir": ".", "case_csPCa": "YES",
        "mask_space": "t2w", "mask_coding": "binary", "zones_coding": "pz1_tz2",
    }  # fmt: skip
    for name in ("gland", "zones", "lesion"):
        path = calibration.masks[f"{name}.{suffix}"]
        row[f"{name}_mask"] = path.name
        shutil.copy(path, folder)
    for table, model in TABLES.items():
        write_table(folder / table, tuple(model.model_fields), [row] if table == "studies.csv" else [])
    return folder
