"""The manifest a hospital starts with, and what happens to it when more studies come."""

from pathlib import Path

import pytest

from prostafed.client.ingest.draft import init_manifest
from prostafed.client.ingest.records import DicomStudy
from prostafed.client.manifest import read_manifest
from prostafed.client.manifest.rows import create_tables
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import DataError

SECRET = b"s" * 32
ROOT = Path("/export")


def study(number: int, folder: str, age: int | None = 64, date: str = "20190702") -> DicomStudy:
    return DicomStudy(f"1.2.{number}", f"patient {number}", (), ROOT / folder, 1, patient_age=age, study_date=date)


def test_a_line_per_study_with_what_the_headers_say(tmp_path):
    studies = [study(1, "a/1"), study(2, "b", age=17, date="2019"), study(3, "b"), study(4, ".")]
    assert init_manifest(tmp_path, studies, ROOT, SECRET) == 4
    manifest = read_manifest(tmp_path)
    assert manifest.findings == ()
    first, second, third, fourth = manifest.studies
    assert first.case_id == make_pseudonym(SECRET, "study", "1.2.1")
    assert first.patient_key == make_pseudonym(SECRET, "PatientID", "patient 1")
    assert (first.dicom_dir, str(first.mri_date), first.patient_age) == ("a/1", "2019-07-02", 64)
    assert (second.dicom_dir, second.mri_date, second.patient_age) == (None, None, None)  # 2 and 3 share a folder
    assert (third.dicom_dir, fourth.dicom_dir) == (None, None)
    assert init_manifest(tmp_path / "nested", [study(1, "c"), study(2, "c/d")], ROOT, SECRET) == 2
    assert [row.dicom_dir for row in read_manifest(tmp_path / "nested").studies] == [None, "c/d"]
    assert "patient" not in (tmp_path / "studies.csv").read_text().split("\n", 1)[1]


@pytest.mark.parametrize(("mark", "end"), [("", "\n"), ("\ufeff", "\r\n")])
def test_again_adds_new_studies_and_leaves_every_byte_people_wrote(tmp_path, mark, end):
    create_tables(tmp_path)
    known = make_pseudonym(SECRET, "study", "1.2.1")
    written = mark + end.join(
        ["note,psa,case_id,dicom_dir", f"'Mr, X',<0.1,{known},", "odd  ,,renamed,b", "no line end,,c,"]
    )
    (tmp_path / "studies.csv").write_bytes(written.encode())
    assert init_manifest(tmp_path, [study(1, "a"), study(2, "b"), study(3, "c")], ROOT, SECRET) == 1
    text = (tmp_path / "studies.csv").read_bytes().decode()
    added = make_pseudonym(SECRET, "study", "1.2.3")
    assert text == f"{written}{end},,{added},c{end}"
    assert init_manifest(tmp_path, [study(1, "a"), study(2, "b"), study(3, "c")], ROOT, SECRET) == 0
    assert (tmp_path / "studies.csv").read_bytes().decode() == text


def test_a_table_without_case_ids_is_not_added_to(tmp_path):
    (tmp_path / "studies.csv").write_text("name;age\n")
    with pytest.raises(DataError, match="expected a column case_id"):
        init_manifest(tmp_path, [study(1, "a")], ROOT, SECRET)
    (tmp_path / "studies.csv").write_bytes("case_id,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        init_manifest(tmp_path, [study(1, "a")], ROOT, SECRET)


def test_empty_tables_are_read_as_empty(tmp_path):
    create_tables(tmp_path)
    manifest = read_manifest(tmp_path)
    assert (manifest.studies, manifest.lesions, manifest.reads, manifest.findings) == ((), (), (), ())
