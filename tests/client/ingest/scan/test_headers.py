"""Files below a folder as studies and findings."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from prostafed.client.ingest.scan import headers, walk
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.common.errors import DataError


def get_codes(findings: object) -> list[tuple[str, str]]:
    return [(each.code, each.severity) for each in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_study(tmp_path: Path, write_series, enhanced: bool) -> None:
    write_series(tmp_path / "t2", 4, enhanced=enhanced, RescaleSlope=2)
    write_series(
        tmp_path / "dwi",
        b_values=(0, 800),
        enhanced=enhanced,
        SeriesInstanceUID="1.2.3",
        SeriesDescription="ep2d_diff",
        SeriesNumber=6,
    )
    (study,), findings = read_studies(tmp_path)
    assert findings == []
    assert (study.uid, study.patient, study.findings) == ("1.2.826.0.1.3680043.8.498.1", "P-1", ())
    assert (study.patient_age, study.study_date, study.folder, study.generated) == (65, "20200102", tmp_path, False)
    assert study.bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.dcm"))
    dwi, t2w = study.series
    assert (dwi.uid, dwi.number, dwi.kind, dwi.plane) == ("1.2.3", 6, "dwi", "axial")
    assert dwi.b_values_s_per_mm2 == (0, 800)
    assert [each.position_mm for each in dwi.slices] == [(0, 0, 0), (0, 0, 3), (0, 0, 6)] * 2
    assert (t2w.kind, t2w.number, len(t2w.slices)) == ("t2w", 4, 4)


def test_studies_come_in_the_order_of_their_files(tmp_path: Path, write_series) -> None:
    for folder, uid in (("b", "1.1"), ("a", "1.9"), ("c/d", "1.5")):
        write_series(tmp_path / folder, StudyInstanceUID=uid)
    studies, _ = read_studies(tmp_path)
    assert [each.uid for each in studies] == ["1.9", "1.1", "1.5"]
    assert [each.folder.name for each in studies] == ["a", "b", "d"]


def test_a_study_spread_over_folders(tmp_path: Path, write_series) -> None:
    write_series(tmp_path / "x" / "1")
    write_series(tmp_path / "x" / "2", SeriesInstanceUID="1.2.3")
    (study,), _ = read_studies(tmp_path)
    assert study.folder == tmp_path / "x"
    assert len(study.series) == 2


BAD_FILES: list[tuple[str, str, bytes]] = [
    ("EMPTY_FILE", "S", b""),
    ("UNREADABLE", "S", b"\0" * 128 + b"DICM" + b"\xff" * 99),
    ("NOT_DICOM", "W", b"notes of Doe"),
    ("ZIP_FOUND", "F", b"PK\x03\x04Doe"),
]


@pytest.mark.parametrize(("code", "severity", "content"), BAD_FILES)
def test_a_bad_file_beside_a_study(tmp_path: Path, write_series, code: str, severity: str, content: bytes) -> None:
    write_series(tmp_path)
    for name in ("Doe-1", "Doe-2"):
        (tmp_path / name).write_bytes(content)
    (study,), findings = read_studies(tmp_path)
    assert len(study.series[0].slices) == 3
    at_home = code in ("EMPTY_FILE", "UNREADABLE")
    assert get_codes(study.findings) == [(code, severity)] * at_home
    assert get_codes(findings) == [(code, severity)] * (not at_home)
    (finding,) = (*study.findings, *findings)
    assert finding.text.startswith(f"{code} case=-: ")
    assert "2 " in finding.text
    assert "Doe" not in finding.text


@pytest.mark.parametrize(("code", "severity", "content"), BAD_FILES)
def test_bad_files_only(tmp_path: Path, code: str, severity: str, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    studies, findings = read_studies(tmp_path)
    assert studies == []
    assert get_codes(findings) == [(code, severity), ("NO_DICOM", "F")]


def test_a_bad_file_between_two_studies_is_of_neither(tmp_path: Path, write_series) -> None:
    write_series(tmp_path, count=1)
    shutil.move(tmp_path / "1.dcm", tmp_path / "0.dcm")
    write_series(tmp_path, count=1, StudyInstanceUID="1.2")
    (tmp_path / "2.dcm").touch()
    studies, findings = read_studies(tmp_path)
    assert [each.findings for each in studies] == [(), ()]
    assert get_codes(findings) == [("EMPTY_FILE", "S")]


def test_an_empty_folder(tmp_path: Path) -> None:
    studies, findings = read_studies(tmp_path)
    assert studies == []
    assert [each.text for each in findings] == [
        "NO_DICOM case=-: expected DICOM images, found none among 0 files; give the folder of the export."
    ]


def test_too_many_files_are_not_read(tmp_path: Path, write_series, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path)
    monkeypatch.setattr(headers, "walk", lambda root: walk.walk(root, limit=2))
    studies, findings = read_studies(tmp_path)
    assert studies == []
    assert get_codes(findings) == [("TOO_MANY_FILES", "F")]


def test_a_truncated_file_is_of_its_study_and_its_slice_stays_in_the_count(tmp_path: Path, write_series) -> None:
    path = write_series(tmp_path)[1]
    path.write_bytes(path.read_bytes()[:-10])
    (study,), findings = read_studies(tmp_path)
    assert findings == []
    assert get_codes(study.findings) == [("TRUNCATED", "F")]
    assert len(study.series[0].slices) == 3
    assert study.series[0].slices[1].stored is None


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_what_one_process_reads(
    tmp_path: Path, write_series, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    for number in range(3):
        write_series(tmp_path / str(number), 7, StudyInstanceUID=f"1.{number}")
    (tmp_path / "0" / "bad").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 99)
    alone = read_studies(tmp_path)
    monkeypatch.setattr(headers, "FEW", 0)
    monkeypatch.setattr(headers, "CHUNK", 4)
    told: list[tuple[int, int]] = []
    together = read_studies(tmp_path, workers=workers, on_file=lambda done, total: told.append((done, total)))
    assert together == alone
    assert told == [(4, 22), (8, 22), (12, 22), (16, 22), (20, 22), (22, 22)]


def test_a_worker_that_was_killed_is_one_sentence(
    tmp_path: Path, write_series, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed:
        def __init__(self, *arguments: object) -> None: ...
        def __enter__(self) -> "Killed":
            return self

        def __exit__(self, *error: object) -> None: ...
        def map(self, function: Callable[..., object], chunks: object) -> None:
            raise BrokenProcessPool("a child of Doe")

    write_series(tmp_path)
    monkeypatch.setattr(headers, "FEW", 0)
    monkeypatch.setattr(headers, "ProcessPoolExecutor", Killed)
    with pytest.raises(DataError, match="want of memory") as error:
        read_studies(tmp_path, workers=2)
    assert "Doe" not in str(error.value)


def test_workers_load_no_torch() -> None:
    heavy = "{'torch', 'SimpleITK'} & set(sys.modules)"
    code = f"import sys, prostafed.client.ingest.scan.headers; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_findings_and_logs_hold_nothing_of_the_patient(
    tmp_path: Path, make_slice, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """PHI in every text element, in names of files and folders; and every finding that can be made of headers."""
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "Doe^John" / "1950-01-01"
    folder.mkdir(parents=True)
    bad = {"PatientSex": "F", "BodyPartExamined": "BRAIN", "BurnedInAnnotation": "YES", "LossyImageCompression": "01"}
    words = ("PatientName", "PatientID", "SeriesDescription", "ProtocolName", "SequenceName", "Manufacturer")
    words += ("InstitutionName", "ReferringPhysicianName", "ContrastBolusAgent", "IssuerOfPatientID", "StudyID")
    tags = {name: "t2 PLANTED" for name in words} | bad
    for number in range(3):
        uid = "1.2.3" if number else "1.2.4"
        dataset = make_slice(**tags | {"PatientID": f"PLANTED{number}", "SOPInstanceUID": uid})
        dataset.save_as(folder / f"PLANTED {number}.dcm")
    make_slice(**tags, ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"]).save_as(folder / "PLANTED mosaic")
    content = (folder / "PLANTED 0.dcm").read_bytes()
    make_slice(**tags | {"SOPInstanceUID": "1.2.5"}).save_as(folder / "PLANTED (cut)")
    (folder / "PLANTED (cut)").write_bytes((folder / "PLANTED (cut)").read_bytes()[:-7])  # no whole copy is there
    (folder / "PLANTED.zip").write_bytes(b"PLANTED")
    (folder / "PLANTED empty").touch()
    (folder / "PLANTED link").symlink_to(folder)
    (folder / "PLANTED bad").write_bytes(content[:132] + b"\xff" * 30 + b"PLANTED" * 9)
    (folder / "PLANTED.notes").write_bytes(b"PLANTED")
    (study,), findings = read_studies(tmp_path)
    findings += study.findings
    assert {each.code for each in findings} == {
        *("ZIP_FOUND", "SYMLINK_SKIPPED", "NOT_DICOM", "EMPTY_FILE", "UNREADABLE", "TRUNCATED", "DUPLICATE_INSTANCE"),
        *("SEVERAL_PATIENTS", "MOSAIC", "ASK_ANATOMY", "BURNED_IN", "LOSSY"),
    }
    reasons = [each.reason for each in study.series]
    said = " ".join([*(each.text for each in findings), *reasons, *capfd.readouterr(), caplog.text])
    for secret in ("PLANTED", "Doe", "1950", "BRAIN", str(tmp_path)):
        assert secret not in said


@pytest.mark.data
def test_the_real_study(data_folder: Path) -> None:
    (study,), findings = read_studies(data_folder / "prostatex_dicom")
    assert findings == []
    assert study.findings == ()
    assert study.patient_age == 63
    found = [(each.number, each.kind, each.plane, len(each.slices), each.b_values_s_per_mm2) for each in study.series]
    assert found == [
        (3, "t2w", "sagittal", 19, ()),
        (4, "t2w", "axial", 19, ()),
        (5, "t2w", "coronal", 15, ()),
        (6, "dwi", "axial", 57, (50, 400, 800)),
        (7, "adc", "axial", 19, (800,)),  # its header carries the highest b-value it was made from
        (8, "hbv_calc", "axial", 19, (1000,)),
        (9, "other", "axial", 16, ()),
    ]


@pytest.mark.data
def test_the_study_that_lacks_a_slice_is_read_as_it_is(data_folder: Path) -> None:
    (study,), findings = read_studies(data_folder / "prostatex_dicom_missing_slice")
    assert findings == []
    assert [(each.kind, len(each.slices)) for each in study.series] == [("hbv_calc", 18)]
