"""Every bad export of the catalogue is answered with its code and one clear sentence, and harms nobody else."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.findings import CODES
from prostafed.client.ingest.index import IndexRequest, index_site
from prostafed.client.manifest import read_manifest
from prostafed.client.manifest.rows import StudyRow
from prostafed.common.imaging.case_folder import open_case_folder
from tests.client.ingest.bad_inputs import BAD_INPUTS, Rows, cells_of
from tests.client.ingest.tiny_study import GRID, make_study, save_study

SECRET = b"of the test"
ELSEWHERE = {"TOO_MANY_FILES", "STUDY_TOO_LARGE", "SOURCE_GONE", "HEADER_GAP"}  # each has a test of its own room


def index(export: Path, out: Path, rows: Rows | None = None, **changes: Any) -> dict[str, Any]:
    """Index `export`, with a manifest where rows are given."""
    manifest_folder = export.parent / "manifest"
    manifest = None
    if rows is not None:
        manifest_folder.mkdir(exist_ok=True)
        columns = list(StudyRow.model_fields)
        with (manifest_folder / "studies.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(cells_of(rows, columns))
        manifest = read_manifest(manifest_folder)
    out.mkdir(exist_ok=True)
    request = IndexRequest(
        export,
        out,
        SECRET,
        GRID,
        ("t2w", "adc", "hbv"),
        manifest=manifest,
        manifest_folder=manifest_folder if rows is not None else None,
        workers=1,
        **changes,
    )
    found: dict[str, Any] = json.loads(json.dumps(index_site(request)))  # as --json prints it
    return found


def findings_of(result: dict[str, Any]) -> list[dict[str, str]]:
    return [*result["findings"], *(each for study in result["studies"] for each in study["findings"])]


def test_the_tiny_study_is_ready_as_it_is(tmp_path: Path) -> None:
    save_study(make_study(), tmp_path / "export")
    result = index(tmp_path / "export", tmp_path / "cases")
    assert findings_of(result) == []
    assert [study["status"] for study in result["studies"]] == ["ready"]
    record = open_case_folder(tmp_path / "cases").records[0]
    assert record.case_id == result["studies"][0]["study"]


def test_every_code_is_tried() -> None:
    assert {code for code, _ in BAD_INPUTS.values()} | ELSEWHERE == set(CODES)
    assert len(BAD_INPUTS) >= 50


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_answered(name: str, tmp_path: Path) -> None:
    code, build = BAD_INPUTS[name]
    export, cases = tmp_path / "export", tmp_path / "cases"
    export.mkdir()
    rows = build(export)
    result = index(export, cases, rows)
    found = [finding for finding in findings_of(result) if finding["code"] == code]
    assert found, f"expected {code}, found {findings_of(result)}"
    for finding in findings_of(result):
        assert finding["severity"] in CODES[finding["code"]]
        assert re.match(rf"{finding['code']} case=([0-9a-f]{{16}}|-): \w", finding["text"])
        assert finding["text"].endswith((".", "!", "?"))
        assert "Traceback" not in finding["text"]
        assert str(tmp_path) not in finding["text"]
        assert "Error" not in finding["text"], "no raw exception"

    ready = {study["study"] for study in result["studies"] if study["status"] != "refused"}
    assert ready == {path.stem for path in cases.glob("*.safetensors")}, "a case for each that is ready, and no other"
    assert not list(cases.rglob("*.part")), "nothing half-written"
    for study in result["studies"]:
        assert (study["status"] == "refused") == any(each["severity"] == "F" for each in study["findings"])


@pytest.mark.parametrize("name", [name for name, (code, _) in BAD_INPUTS.items() if code not in {"ZIP_FOUND"}])
def test_a_bad_study_does_not_harm_a_good_one(name: str, tmp_path: Path) -> None:
    export = tmp_path / "export"
    (export / "bad").mkdir(parents=True)
    BAD_INPUTS[name][1](export / "bad")
    save_study(make_study("P9", seed=9), export / "good")
    result = index(export, tmp_path / "cases")
    assert any(study["status"] == "ready" for study in result["studies"])
