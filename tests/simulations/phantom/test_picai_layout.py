"""Files in the layout of PI-CAI: read back, resumed, never half-written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import DataError, StorageError
from prostafed.common.imaging.cases import Grid
from prostafed.simulations.phantom.marksheet import COLUMNS
from prostafed.simulations.phantom.picai_layout import Emulation, write_picai_layout
from prostafed.simulations.phantom.settings import Readers, Scanner
from tests.simulations.datasets.layouts import load

FAST = {
    "scanner": Scanner(t2_in_plane_mm=1.2, slice_thickness_mm=5.0),
    "readers": Readers(count=2),
    "field_of_view_mm": 130.0,
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    out = tmp_path_factory.mktemp("layout")
    calls = []
    write_picai_layout(out, 6, Emulation(1, **FAST), lambda done, count: calls.append((done, count)))
    assert calls == [(done, 6) for done in range(1, 7)]
    return out


def read_table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_volume(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def mask(layout, kind, case):
    return next((layout / "labels").glob(f"**/{kind}/{case}.nii.gz"))


def test_marksheet_has_the_columns_and_agrees_with_itself(layout):
    rows = read_table(layout / "clinical_information" / "marksheet.csv")
    assert len(rows) == 6
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        assert (row["case_csPCa"] == "YES") == (int(row["case_ISUP"]) >= 2)
        grades = [int(grade) for grade in row["lesion_ISUP"].split(",") if grade]
        assert max(grades, default=0) == int(row["case_ISUP"])
        assert len(grades) == len([gleason for gleason in row["lesion_GS"].split(",") if gleason])
        assert row["center"] in {"RUMC", "ZGT", "PCNN"}
    assert {row["case_csPCa"] for row in rows} == {"YES", "NO"}
    reads = read_table(layout / "clinical_information" / "reads.csv")
    assert tuple(reads[0]) == ("case_id", "lesion_id", "reader_id", "pirads")
    assert len(reads) == 12
    assert all(row["lesion_id"] == "case" and 1 <= int(row["pirads"]) <= 5 for row in reads)


def test_images_and_masks_read_back(layout):
    for row in read_table(layout / "clinical_information" / "marksheet.csv"):
        case = f"{row['patient_id']}_{row['study_id']}"
        t2w, adc, hbv = (
            sitk.ReadImage(str(layout / "images" / row["patient_id"] / f"{case}_{name}.mha"))
            for name in ("t2w", "adc", "hbv")
        )
        assert t2w.GetSpacing() == pytest.approx((1.2, 1.2, 5.0))
        assert adc.GetSpacing() == pytest.approx((2.0, 2.0, 5.0))
        assert adc.GetSize() == hbv.GetSize()
        assert {image.GetPixelIDTypeAsString() for image in (t2w, adc, hbv)} == {"16-bit unsigned integer"}
        assert t2w.GetDirection()[8] < 1  # oblique
        gland, zones, lesion = (
            sitk.ReadImage(str(mask(layout, kind, case))) for kind in ("Bosma22b", "HeviAI23", "resampled")
        )
        for each in (gland, zones, lesion):
            assert each.GetSize() == t2w.GetSize()
            np.testing.assert_allclose(each.GetOrigin(), t2w.GetOrigin(), atol=1e-3)
            np.testing.assert_allclose(each.GetDirection(), t2w.GetDirection(), atol=1e-5)
        values = set(np.unique(sitk.GetArrayFromImage(lesion))) - {0}
        assert bool(values) == (row["case_csPCa"] == "YES")
        assert values <= {2, 3, 4, 5}
        centers = [
            image.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in image.GetSize()])
            for image in (t2w, adc)
        ]
        np.testing.assert_allclose(*centers, atol=0.05)
        inside = sitk.Resample(adc, t2w)
        gland_adc = sitk.GetArrayFromImage(inside)[sitk.GetArrayFromImage(gland) > 0]
        assert 900 < np.median(gland_adc) < 1800  # the gland of the mask is the gland of the other grid too


def test_it_says_that_it_is_generated(layout):
    assert "GENERATED" in (layout / "README.txt").read_text()
    settings = json.loads((layout / "GENERATED.json").read_text())
    assert settings["generated"] is True
    assert settings["scanner"]["vendor"] == "siemens"


def test_the_importer_reads_it(layout):
    cases = list(load("picai", layout, Grid((5.0, 2.0, 2.0), (12, 48, 48)), ("t2w", "adc", "hbv")))
    assert len(cases) == 6
    for record, image, masks in cases:
        assert len(record.pirads_reads) == 2
        assert masks[2].any() == record.cspca
        assert np.isfinite(image).all()


def test_the_same_call_finishes_what_was_interrupted(layout):
    before = {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in layout.rglob("*.mha")}
    gone = sorted(layout.glob("images/*/*_hbv.mha"))[2]
    gone.unlink()
    write_picai_layout(layout, 6, Emulation(1, **FAST))
    assert {path: path.read_bytes() for path in layout.rglob("*") if path.is_file()} == before
    again = [path for path in times if path.stat().st_mtime_ns != times[path]]
    assert {path.parent for path in again} == {gone.parent}
    assert not list(layout.rglob("*.part*"))


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    def fail(image, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", fail)
    with pytest.raises(StorageError, match="no space left on device"):
        write_picai_layout(tmp_path, 1, Emulation(1, **FAST))
    assert not list(tmp_path.rglob("*.mha"))
    assert not list(tmp_path.rglob(".part-*"))
    assert not (tmp_path / "clinical_information" / "marksheet.csv").exists()


def test_other_settings_or_other_files_are_not_overwritten(layout, tmp_path):
    with pytest.raises(DataError, match="other settings"):
        write_picai_layout(layout, 6, Emulation(2, **FAST))
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_picai_layout(tmp_path, 1, Emulation(1))
    with pytest.raises(ValueError, match="Unknown centre"):
        write_picai_layout(tmp_path / "new", 1, Emulation(1, centers=("UMCG",)))
