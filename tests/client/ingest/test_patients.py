"""One patient number for several men."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.ingest.draft import init_manifest
from prostafed.client.ingest.patients import describe_shared, find_shared_numbers
from prostafed.client.ingest.records import DicomStudy
from tests.client.ingest.test_bad_inputs import findings_of, index
from tests.client.ingest.tiny_study import make_study, save_study

SECRET = b"of the test"


def make(number: int, patient: str = "ANONYMOUS", **values: Any) -> DicomStudy:
    return DicomStudy(f"1.2.{number}", patient, (), Path(f"/root/{number}"), 1, **values)


@pytest.mark.parametrize(
    ("first", "second", "several"),
    [
        ({"birth_date": "19500101"}, {"birth_date": "19510101"}, True),
        ({"birth_date": "19500101"}, {"birth_date": "19500101"}, False),
        ({"birth_date": "19500101"}, {}, False),
        ({"patient_age": 60, "study_date": "20200101"}, {"patient_age": 63, "study_date": "20230601"}, False),
        ({"patient_age": 60, "study_date": "20200101"}, {"patient_age": 64, "study_date": "20200101"}, True),
        ({"birth_date": "19500101"}, {"patient_age": 60, "study_date": "20200101"}, True),
        ({"patient_age": 60}, {"patient_age": 70}, False),  # no date: perhaps ten years later
    ],
)
def test_studies_that_cannot_be_of_one_man(first: dict[str, Any], second: dict[str, Any], several: bool) -> None:
    studies = [make(1, **first), make(2, **second), make(3, "Q", birth_date="18000101")]
    assert find_shared_numbers(studies) == ([studies[:2]] if several else [])


def test_the_sentence_counts_and_names_nobody() -> None:
    assert describe_shared([]) == []
    (finding,) = describe_shared([[make(1, birth_date="19500101"), make(2, birth_date="19510101")]])
    assert (finding.code, finding.severity) == ("SHARED_NUMBER", "W")
    assert "found 2 studies" in finding.text
    assert "patient_key in studies.csv" in finding.text
    assert not {"ANONYMOUS", "1950"} & set(finding.text.replace(",", " ").split())


def read_keys(folder: Path) -> list[str]:
    with (folder / "studies.csv").open() as file:
        return [row["patient_key"] for row in csv.DictReader(file)]


def test_a_new_manifest_does_not_make_them_one_patient(tmp_path: Path) -> None:
    men = [make(number, birth_date=f"195{number}0101") for number in range(3)]
    init_manifest(tmp_path / "a", [*men, make(4, "Q"), make(5, "Q")], Path("/root"), SECRET)
    keys = read_keys(tmp_path / "a")
    assert keys[:3] == ["", "", ""]
    assert keys[3] == keys[4] != ""
    init_manifest(tmp_path / "b", [replace(man, birth_date="") for man in men], Path("/root"), SECRET)
    assert len(set(read_keys(tmp_path / "b"))) == 1


def save_men(folder: Path) -> None:
    for number in range(2):
        study = make_study("ANONYMOUS", seed=number)
        for each in (each for series in study.values() for each in series):
            each.PatientBirthDate = f"195{number}0101"
        save_study(study, folder / str(number))


def test_a_key_for_each_answers_the_finding(tmp_path: Path) -> None:
    save_men(tmp_path / "export")
    bare = [{"case_id": str(number), "dicom_dir": str(number)} for number in range(2)]
    for rows, said in ((None, ["SHARED_NUMBER"]), (bare, ["SHARED_NUMBER"])):
        assert [each["code"] for each in findings_of(index(tmp_path / "export", tmp_path / "cases", rows))] == said
    keyed = [{**row, "patient_key": f"man-{row['case_id']}"} for row in bare]
    assert findings_of(index(tmp_path / "export", tmp_path / "cases", keyed)) == []
