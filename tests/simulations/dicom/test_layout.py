"""Generated studies as a hospital has them: export, manifest and masks agree, and ingestion makes cases of them."""

import csv
import json
import shutil
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.client.ingest.images.stack import stack_volume
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.manifest import check_manifest, read_manifest
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.imaging.cases import Grid
from prostafed.simulations.dicom.layout import write_dicom_layout
from prostafed.simulations.phantom.picai_layout import Emulation, write_picai_layout
from prostafed.simulations.phantom.settings import Readers, Scanner
from tests import programs

CASES = 2
FAST = {"readers": Readers(count=2), "field_of_view_mm": 130.0}
SMALL = {"t2_in_plane_mm": 1.2, "slice_thickness_mm": 5.0}
LOOKS = {"ge": "ge", "siemens": "siemens", "enhanced": "philips"}


def write(out, style, cases=CASES, seed=3, **more):
    emulation = Emulation(seed, scanner=Scanner(vendor=LOOKS[style], **SMALL), **FAST)
    write_dicom_layout(out, cases, emulation, style=style, **more)


@pytest.fixture(scope="session", params=LOOKS)
def layout(request, tmp_path_factory):
    out = tmp_path_factory.mktemp(f"layout {request.param}") / request.param
    calls = []
    write(out, request.param, progress=lambda done, count: calls.append((done, count)))
    assert calls == [(done, CASES) for done in range(1, CASES + 1)]
    return out


@pytest.fixture(scope="session")
def picai(layout, tmp_path_factory):
    """The same patients in the PI-CAI layout."""
    out = tmp_path_factory.mktemp("picai")
    write_picai_layout(out, CASES, Emulation(3, scanner=Scanner(vendor=LOOKS[layout.name], **SMALL), **FAST))
    return out


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_manifest_is_right_and_says_what_the_marksheet_says(layout, picai):
    assert check_manifest(layout / "manifest").findings == ()
    rows = read_table(layout / "manifest" / "studies.csv")
    marks = read_table(picai / "clinical_information" / "marksheet.csv")
    for row, mark in zip(rows, marks, strict=True):
        assert row["case_id"] == f"{mark['patient_id']}_{mark['study_id']}"
        for name in ("mri_date", "patient_age", "psa", "psad", "prostate_volume", "histopath_type", "case_ISUP"):
            assert row[name] == mark[name]
        assert row["case_csPCa"] == mark["case_csPCa"]
    lesions = read_table(layout / "manifest" / "lesions.csv")
    for mark in marks:
        case = f"{mark['patient_id']}_{mark['study_id']}"
        grades = [row["isup"] for row in lesions if row["case_id"] == case and row["isup"]]
        assert ",".join(grades) == mark["lesion_ISUP"]
    reads = read_table(layout / "manifest" / "reads.csv")
    expected = read_table(picai / "clinical_information" / "reads.csv")
    shared = ("case_id", "lesion_id", "reader_id", "pirads")
    assert [[row[name] for name in shared] for row in reads] == [[row[name] for name in shared] for row in expected]


def test_the_images_are_those_of_the_picai_layout(layout, picai):
    studies, findings = read_studies(layout / "dicom", workers=1)
    assert len(studies) == CASES
    assert findings == []
    for study in studies:
        assert study.generated
        patient = study.patient.removeprefix("GENERATED-")
        kinds = [(each.kind, each.plane) for each in study.series]
        assert {("t2w", "axial"), ("t2w", "sagittal"), ("t2w", "coronal"), ("localizer", "mixed")} <= set(kinds)
        for kind, name in (("t2w", "t2w"), ("adc", "adc")):
            (series,) = (each for each in study.series if (each.kind, each.plane) == (kind, "axial"))
            ours = stack_volume(series.slices, kind)
            theirs = sitk.ReadImage(str(next((picai / "images" / patient).glob(f"*_{name}.mha"))))
            assert ours.GetSize() == theirs.GetSize()
            np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-3)
            np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-5)
            step = max(1.0, *(each.slope for each in series.slices))
            difference = np.abs(sitk.GetArrayFromImage(ours) - sitk.GetArrayFromImage(theirs).astype(np.float32))
            assert np.quantile(difference, 0.999) <= step / 2 + 0.51  # the brightest pixels clip at 12 bits


def test_ingestion_makes_cases_of_it(layout, tmp_path):
    manifest = read_manifest(layout / "manifest")
    request = IndexRequest(
        dicom=layout / "dicom",
        out=tmp_path / "cases",
        secret=b"s" * 32,
        grid=Grid((5.0, 1.5, 1.5), (12, 64, 64)),
        sequences=("t2w", "adc", "hbv"),
        manifest=manifest,
        manifest_folder=layout / "manifest",
        workers=1,
    )
    said = index_site(request)
    assert {study["status"] for study in said["studies"]} <= {"ready", "warning"}, said["studies"]
    folder = open_case_folder(request.out)
    rows = {(row.psa, row.case_ISUP): row for row in manifest.studies}
    assert {row.case_csPCa for row in manifest.studies} == {"YES", "NO"}
    assert len(folder.records) == len(rows) == CASES
    for index, record in enumerate(folder.records):
        row = rows[record.psa, record.isup]
        assert record.source == "phantom"
        assert record.cspca == (row.case_csPCa == "YES")
        assert len(record.pirads_reads) == 2
        assert record.sequences["adc"] == "vendor map"
        assert record.sequences["hbv"] == (
            "scanner-calculated b=1400" if layout.name == "siemens" else "acquired b=1400"
        )
        image, masks = folder.load(index)
        assert np.isfinite(image).all()
        assert masks[0].any()
        assert masks[2].any() == record.cspca
        assert not masks[1][masks[0] == 0].any()


def test_the_same_call_finishes_what_was_interrupted(tmp_path):
    write(tmp_path, "enhanced", 2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.dcm")}
    shutil.rmtree(tmp_path / "dicom" / "90001")
    write(tmp_path, "enhanced", 2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert all((path.stat().st_mtime_ns == time) == ("90000" in path.parts) for path, time in times.items())
    assert not list(tmp_path.rglob(".part-*"))
    with pytest.raises(DataError, match="other settings"):
        write(tmp_path, "enhanced", 2, seed=2)
    with pytest.raises(DataError, match="other settings"):
        write(tmp_path, "siemens", 2)


def test_it_says_that_it_is_generated(layout):
    assert "GENERATED" in (layout / "README.txt").read_text()
    settings = json.loads((layout / "GENERATED.json").read_text())
    assert settings["generated"] is True
    assert settings["dicom"] == layout.name


def test_the_command(tmp_path):
    call = partial(programs.call, "prostafed-sim", "phantom")
    done = call("--cases", "1", "--out", tmp_path / "out", "--dicom", "enhanced", "--json")
    assert done.code == 0, done.err
    assert done.json == {
        "cases": 1, "dicom": "enhanced", "generated": True, "out": str(tmp_path / "out"),
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "GENERATED.json").read_text())["scanner"]["vendor"] == "philips"
    assert (tmp_path / "out" / "manifest" / "studies.csv").exists()
    for arguments, expected in (
        (("--dicom", "simens"), "did you mean 'siemens'"),
        (("--dicom", "ge", "--vendor", "uih"), "Drop one"),
    ):
        done = call("--cases", "1", "--out", tmp_path / "other", *arguments)
        assert done.code == 2
        assert expected in done.err
