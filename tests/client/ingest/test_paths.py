"""Folders whose names are no UTF-8, as archives packed on an older Windows leave them."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import typer

from prostafed.client.ingest.draft import init_manifest
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.client.ingest.labels import read_mask
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.manifest import read_manifest
from prostafed.common.shell.command import run_command
from tests.client.ingest.tiny_study import GRID, make_study, save_study

SECRET = b"of the test"
LATIN = os.fsdecode(b"Pr\xe4parat")  # "Präparat" in Latin-1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of another encoding; skips the test where the file system has no such names."""
    folder = tmp_path / LATIN
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("names are UTF-8 here")
    return folder


def index(dicom: Path, out: Path, **values: Any) -> dict[str, Any]:
    request = IndexRequest(dicom, out, SECRET, GRID, ("t2w", "adc", "hbv"), workers=1, **values)
    return index_site(request)


def test_an_export_in_such_a_folder_is_indexed_and_kept(root: Path) -> None:
    save_study(make_study(), root / "export" / LATIN)
    for reused in (0, 1):
        found = index(root / "export", root / "cases")
        assert (found["findings"], [each["status"] for each in found["studies"]]) == ([], ["ready"])
        assert found["counts"]["reused"] == reused


def test_its_studies_get_a_line_without_a_folder(root: Path) -> None:
    for number in range(2):
        save_study(make_study(seed=number), root / "export" / (LATIN if number else "plain"))
    studies, _ = read_studies(root / "export")
    assert init_manifest(root / "manifest", studies, root / "export", SECRET) == 2
    rows = list(csv.DictReader(io.StringIO((root / "manifest" / "studies.csv").read_text("utf-8"))))
    assert {row["dicom_dir"] for row in rows} == {"plain", ""}
    manifest = read_manifest(root / "manifest")
    found = index(root / "export", root / "cases", manifest=manifest, manifest_folder=root / "manifest")
    assert [each["status"] for each in found["studies"]] == ["ready", "ready"]


def test_image_files_there_are_read(root: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    plain = root.parent / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(plain))
    os.rename(plain, root / "mask.nii.gz")
    mask = read_mask(root / "mask.nii.gz", sitk.Image(4, 3, 2, sitk.sitkFloat32))
    np.testing.assert_array_equal(sitk.GetArrayViewFromImage(mask), values)


def test_a_command_prints_such_a_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    shown = io.BytesIO()

    @app.command()
    def show() -> None:
        print(root)
        print(json.dumps(str(root)))

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8", errors="strict"))
    monkeypatch.setattr(sys, "argv", ["show"])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    sys.stdout.flush()
    assert not ended.value.code
    first, second = shown.getvalue().decode().splitlines()
    assert first.endswith("Pr\\udce4parat")
    assert json.loads(second) == str(root)
