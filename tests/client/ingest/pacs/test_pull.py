"""Pulling from archives that run in the test: what arrives, what is asked for again, what is said of failures."""

import logging
import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, RLELossless

from prostafed.client.ingest.pacs.association import PacsError, PacsServer, Tls
from prostafed.client.ingest.pacs.pull import PullRequest, StudyQuery, pull, read_wanted_list
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import ConfigurationError, StorageError
from prostafed.server.link.pki import create_pki

from .archives import ARCHIVES, NAME, OURS, free_port, misbehaving, verify

SECRET = b"s" * 32
ROOT = "1.2.826.0.1.3680043.8.498.77"
FIRST, SECOND, THIRD = f"{ROOT}.1", f"{ROOT}.2", f"{ROOT}.3"
PHI = ("Doe", "P-1", "P-2", "ACC", "PROSTAAT", "Prostate", ROOT)
ALL = 8  # MR instances


@pytest.fixture(scope="session")
def exported(write_series: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three studies: MR with a CT series beside it; MR, one series of it enhanced; CT alone."""
    folder = tmp_path_factory.mktemp("archived")

    def write(name: str, study: str, count: int, **tags: Any) -> list[Path]:
        uid = f"{study}.{len(list(folder.iterdir())) + 1}"
        described = {"StudyTime": "090000", "StudyInstanceUID": study, "SeriesInstanceUID": uid, "SOPInstanceUID": None}
        made: list[Path] = write_series(folder / name, count, **described | tags)
        for number, path in enumerate(made, start=1):
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{number}"
            dataset.save_as(path)
        return made

    first = {"StudyDate": "20200102", "AccessionNumber": "ACC1", "StudyDescription": "MR PROSTAAT"}
    second = {"StudyDate": "20210601", "AccessionNumber": "ACC2", "StudyDescription": "Prostate", "PatientID": "P-2"}
    third = {"StudyDate": "20210602", "AccessionNumber": "ACC3", "StudyDescription": "CT"}
    tomography = {"Modality": "CT", "SOPClassUID": CTImageStorage}
    return [
        *write("t2w", FIRST, 4, **first),
        *write("dwi", FIRST, 2, syntax=ImplicitVRLittleEndian, **first),
        *write("ct", FIRST, 1, **first, **tomography),
        *write("more", SECOND, 1, **second),
        *write("enhanced", SECOND, 2, enhanced=True, **second),
        *write("other", THIRD, 1, **third, **tomography),
    ]


@pytest.fixture(scope="session", params=ARCHIVES)
def archive(
    request: pytest.FixtureRequest, exported: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PacsServer, int]]:
    move_port = free_port()
    folder = tmp_path_factory.mktemp("archive") / request.param
    with ARCHIVES[request.param](folder, exported, move_port) as server:
        yield server, move_port


@pytest.fixture
def make_request(archive: tuple[PacsServer, int], tmp_path: Path) -> Any:
    server, move_port = archive
    usual = {"wanted": StudyQuery(), "out": tmp_path / "out", "secret": SECRET, "listen_port": move_port}
    return lambda **settings: PullRequest(**{"server": server, "listen_host": "127.0.0.1"} | usual | settings)


@pytest.fixture(autouse=True)
def _nothing_leaks(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No test leaves a patient's value in a log, however much is logged, or on the terminal."""
    caplog.set_level(logging.DEBUG)
    yield
    said = "".join(capfd.readouterr()) + "\n".join(record.getMessage() for record in caplog.get_records("call"))
    assert not [value for value in PHI if value in said]


def instances(out: Path) -> dict[str, Path]:
    return {str(dcmread(path).SOPInstanceUID): path for path in out.rglob("*.dcm")}


@pytest.mark.parametrize("method", ["get", "move"])
def test_the_mr_images_arrive_as_they_are_under_pseudonyms(make_request, exported, method, tmp_path):
    calls = []
    verify(make_request().server)
    said = pull(make_request(method=method), lambda *call: calls.append(call))
    assert [study["study"] for study in said["studies"]] == [
        make_pseudonym(SECRET, "study", u) for u in (FIRST, SECOND)
    ]
    assert said["counts"] == {"studies": 2, "found": ALL, "fetched": ALL, "present": 0}
    assert {study["status"] for study in said["studies"]} == {"complete"}
    assert [done for done, _ in calls] == list(range(1, 1 + calls[-1][1]))
    arrived = instances(tmp_path / "out")
    sent = {str(dataset.SOPInstanceUID): dataset for dataset in map(dcmread, exported) if dataset.Modality == "MR"}
    assert arrived.keys() == sent.keys()
    for uid, path in arrived.items():
        dataset = dcmread(path)
        assert dataset.PixelData == sent[uid].PixelData
        assert dataset.PatientID == sent[uid].PatientID
        study, series, name = path.relative_to(tmp_path / "out").parts
        assert study == make_pseudonym(SECRET, "study", dataset.StudyInstanceUID)
        assert series == make_pseudonym(SECRET, "series", dataset.SeriesInstanceUID)
        assert name in {f"{number:04d}.dcm" for number in range(1, 5)}
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file() and each.suffix != ".dcm"]
    assert not [value for value in PHI if value in str(said)]


@pytest.mark.parametrize("method", ["get", "move"])
def test_only_what_is_missing_is_asked_for_again(make_request, method, tmp_path):
    pull(make_request(method=method))
    before = instances(tmp_path / "out")
    lost = before.pop(f"{FIRST}.1.3")
    lost.unlink()
    shutil.rmtree(before.pop(f"{SECOND}.4.1").parent)
    half = before.pop(f"{FIRST}.2.1")
    half.write_bytes(half.read_bytes()[:100])
    times = {path: path.stat().st_mtime_ns for path in before.values()}
    said = pull(make_request(method=method))
    assert said["counts"] == {"studies": 2, "found": ALL, "fetched": 3, "present": ALL - 3}
    half.unlink()
    assert len(instances(tmp_path / "out")) == ALL
    assert {path: path.stat().st_mtime_ns for path in before.values()} == times
    assert pull(make_request(method=method))["counts"]["fetched"] == 0


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (StudyQuery(since=date(2021, 1, 1)), [SECOND]),
        (StudyQuery(until=date(2020, 1, 2)), [FIRST]),
        (StudyQuery(since=date(2020, 1, 3), until=date(2021, 5, 31)), []),
        (StudyQuery(description="prostaa"), [FIRST]),
        (StudyQuery(listed=(("AccessionNumber", "ACC2"), ("AccessionNumber", "ACC3"))), [SECOND]),
        (StudyQuery(listed=(("PatientID", "P-1"), ("PatientID", "P-2"))), [FIRST, SECOND]),
        (StudyQuery(modality="CT"), [FIRST, THIRD]),
    ],
)
def test_what_is_wanted(make_request, wanted, expected, tmp_path, request):
    if wanted.description and "pynetdicom" in request.node.callspec.id:
        with pytest.raises(PacsError, match="does not tell studies' descriptions"):
            pull(make_request(wanted=wanted))
        return
    said = pull(make_request(wanted=wanted, dry_run=True))
    assert [study["study"] for study in said["studies"]] == [make_pseudonym(SECRET, "study", uid) for uid in expected]
    assert not (tmp_path / "out").exists()
    assert {study["status"] for study in said["studies"]} <= {"found"}


def test_an_archive_that_does_not_know_us_or_is_not_the_one_meant(make_request):
    server = make_request().server
    unknown = replace(server, calling_ae_title="STRANGER")
    with pytest.raises(PacsError, match="does not know where STRANGER is"):
        pull(make_request(server=unknown, method="move"))


def test_an_archive_that_cannot_be_reached(tmp_path):
    closed = PacsServer("127.0.0.1", free_port(), NAME, OURS, timeout_s=2)
    with pytest.raises(PacsError, match=r"Cannot reach The archive ARCHIVE at .* \(connection refused\)"):
        verify(closed)
    with pytest.raises(PacsError, match="host name is not known"):
        verify(replace(closed, host="nowhere.invalid"))
    expected = "accepted no DICOM association within 1 s"
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(PacsError, match=expected):
        verify(PacsServer("127.0.0.1", mute.getsockname()[1], NAME, OURS, timeout_s=1))
    with misbehaving(title="ANOTHER") as server, pytest.raises(PacsError, match="ARCHIVE is not its AE title"):
        verify(server)


def test_the_port_to_listen_on_is_taken(make_request):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PacsError, match="Cannot listen on port"):
        pull(make_request(method="move", listen_port=taken.getsockname()[1]))


def test_services_an_archive_does_not_offer(tmp_path):
    with misbehaving() as server, pytest.raises(PacsError, match=r"does not offer Study Root .* FIND to PROSTAFED"):
        pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))
    with misbehaving(find=answering(FIRST)) as server, pytest.raises(PacsError, match=r"GET to .*--move"):
        pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))


def test_a_failed_query_is_said_in_our_words(tmp_path):
    def overflow(event: Any) -> Iterator[Any]:
        status = Dataset()
        status.Status, status.ErrorComment = 0xA700, "Doe has too many"
        yield status, None

    with misbehaving(find=overflow) as server, pytest.raises(PacsError, match=r"0xA700.*Ask for fewer") as error:
        pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))
    assert "Doe" not in str(error.value)


def answering(*studies: str, series: int = 1, images: int = 2) -> Any:
    """A C-FIND that ignores every key but the level."""

    def find(event: Any) -> Iterator[Any]:
        level = event.identifier.QueryRetrieveLevel
        for study in studies if level == "STUDY" else [event.identifier.StudyInstanceUID]:
            for number in range(1, 1 + {"STUDY": 1, "SERIES": series, "IMAGE": images}[level]):
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.StudyInstanceUID = level, study
                answer.SeriesInstanceUID, answer.SOPInstanceUID = f"{study}.1", f"{study}.1.{number}"
                yield 0xFF00, answer

    return find


def sending(*datasets: Dataset, status: int | None = None) -> Any:
    def get(event: Any) -> Iterator[Any]:
        yield len(datasets)
        if status is not None:
            yield status, None
        for dataset in datasets:
            yield 0xFF00, dataset

    return get


def make(make_slice: Any, study: str, number: int) -> Dataset:
    uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "SOPInstanceUID": f"{study}.1.{number}"}
    made: Dataset = make_slice(syntax=ImplicitVRLittleEndian, **uids)
    return made


def test_what_was_not_asked_for_is_refused_and_what_comes_twice_is_kept_once(make_slice, tmp_path):
    one, other, mixed = make(make_slice, FIRST, 1), make(make_slice, SECOND, 1), make(make_slice, SECOND, 2)
    mixed.SeriesInstanceUID = one.SeriesInstanceUID
    with misbehaving(find=answering(FIRST), get=sending(other, mixed, one, one)) as server:
        said = pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))
    assert list(instances(tmp_path)) == [f"{FIRST}.1.1"]
    assert len(list(tmp_path.rglob("*.dcm"))) == 1
    assert said["studies"][0] | {"study": ""} == {
        "study": "", "status": "partial", "found": 2, "fetched": 1, "present": 0
    }  # fmt: skip


def test_a_compressed_image_stays_compressed(make_slice, tmp_path):
    one = make_slice(StudyInstanceUID=FIRST, SeriesInstanceUID=f"{FIRST}.1", SOPInstanceUID=f"{FIRST}.1.1")
    one.compress(RLELossless, generate_instance_uid=False)
    with misbehaving(find=answering(FIRST, images=1), get=sending(one)) as server:
        assert pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))["studies"][0]["status"] == "complete"
    (path,) = tmp_path.rglob("*.dcm")
    assert dcmread(path).file_meta.TransferSyntaxUID == RLELossless
    assert dcmread(path).PixelData == one.PixelData


def test_a_series_is_asked_for_whole_and_then_only_its_missing_instances(make_slice, tmp_path):
    asked = []

    def get(event: Any) -> Iterator[Any]:
        asked.append((event.identifier.QueryRetrieveLevel, event.identifier.get("SOPInstanceUID")))
        return sending(make(make_slice, FIRST, len(asked)))(event)

    with misbehaving(find=answering(FIRST), get=get) as server:
        statuses = [pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))["studies"][0]["status"] for _ in range(3)]
    assert statuses == ["partial", "complete", "complete"]
    assert asked == [("SERIES", None), ("IMAGE", f"{FIRST}.1.2")]


def test_a_transfer_that_ends_in_an_error_is_one_studys(make_slice, tmp_path):
    one = make(make_slice, FIRST, 1)
    with misbehaving(find=answering(FIRST, SECOND), get=sending(one, status=0xC512)) as server:
        said = pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))
    assert [study["status"] for study in said["studies"]] == ["failed", "failed"]
    assert said["counts"] == {"studies": 2, "found": 4, "fetched": 0, "present": 0}


def test_a_full_disk_is_said_as_such(make_slice, tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    one = make(make_slice, FIRST, 1)
    with (
        misbehaving(find=answering(FIRST), get=sending(one)) as server,
        pytest.raises(StorageError, match="no space left"),
    ):
        pull(PullRequest(server, StudyQuery(), tmp_path, SECRET))


def test_over_tls(tmp_path):
    pki = create_pki(tmp_path / "pki")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki.server_certificate, pki.server_key)
    with misbehaving(find=answering(FIRST), tls=context) as server:
        encrypted = replace(server, tls=Tls(pki.ca_certificate))
        verify(encrypted)
        stranger = create_pki(tmp_path / "other").ca_certificate
        with pytest.raises(PacsError, match="certificate"):
            verify(replace(server, tls=Tls(stranger)))
        with pytest.raises(PacsError, match="wants TLS"):
            verify(replace(server, timeout_s=1))
        with pytest.raises(PacsError, match="Cannot read the TLS certificates"):
            verify(replace(server, tls=Tls(tmp_path / "none.crt")))


def test_a_list_of_studies(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\ufeffnote,Accession_Number\nx, ACC1 \ny,ACC2\nz,\nx,ACC1\n")
    assert read_wanted_list(path) == (("AccessionNumber", "ACC1"), ("AccessionNumber", "ACC2"))
    path.write_text("patient_id\nP-1\n")
    assert read_wanted_list(path) == (("PatientID", "P-1"),)
    for text, expected in (
        ("patient_id,accession_number\n1,2\n", "found 2"),
        ("name\nDoe\n", "found 0"),
        ("patient_id\nP-1\nP*\n", "line 3"),
        ("patient_id\n\n", "no value"),
        ("", "found 0"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=expected) as error:
            read_wanted_list(path)
        assert "Doe" not in str(error.value)
    path.write_bytes(b"patient_id\n\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        read_wanted_list(path)
