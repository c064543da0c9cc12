"""Nothing of a patient leaves through the gate: who he is, is planted in images, tables and errors, and looked for in
every byte that a hospital sends, and in every file that tells of what it sent.
"""

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from pydicom import config

from prostafed.client import app as site_app
from prostafed.client.connect.status import Status, StatusFile
from prostafed.client.dossier import answers
from prostafed.client.dossier.answers import make_dossier
from prostafed.client.gate import outbox
from prostafed.client.gate.approval import require_approval
from prostafed.client.gate.audit import read_audit
from prostafed.client.ingest.index import index_site, request_index
from prostafed.client.manifest.rows import LesionRow, ReadRow, StudyRow
from prostafed.client.rounds import answer as work
from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.site.setup import init_site
from prostafed.client.site.site_file import read_site_file
from prostafed.common.dossier.page import write_dossier
from prostafed.common.errors import ApprovalError, DataError, HeldError
from prostafed.common.exchange.messages import Refusal, Reply, Request
from prostafed.common.exchange.wire import unpack_reply
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.shell.configuration import parse
from prostafed.common.shell.tables import write_table
from prostafed.common.study import Study
from tests.client.gate.approved import approve
from tests.client.gate.hospital import make_message
from tests.client.ingest.tiny_study import GRID, make_study, save_study
from tests.client.tiny_site import initial

from .test_no_patient_data import DATE, NAME, NUMBER, ROOT, plant

PATIENTS = 6
READER, PSA, TEXT = "DR-ZZREADER", "47.1131", f"{NAME} was seen on {DATE}"
STUDY = parse(
    {
        "name": "planted",
        "data": {"size": GRID.size, "spacing_mm": GRID.spacing_mm, "validation_fraction": 0.2, "test_fraction": 0.2},
        "model": {"width": 4, "resolutions": 2},
        "stage": [{"kind": "finetune", "task": "classify", "rounds": 2, "epochs": 1, "batch_size": 2}],
    },
    Study,
    "test",
)
OTHER = STUDY.model_copy(update={"seed": 9})
# What tells of what left, beside the site file. Whatever else comes to tell of it belongs here.
TELLING = ("outbox*.jsonl", "audit*.jsonl", "requests/*", "approvals/*", "status.json", "halted", "dossier*/**/*")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """The site file of a hospital that has indexed its patients, and all that tells who they are."""
    export, north = tmp_path_factory.mktemp("pacs") / "export", tmp_path_factory.mktemp("home") / "north"
    rows = []
    config.settings.writing_validation_mode = config.IGNORE
    try:
        for number in range(PATIENTS):
            study = make_study(seed=number)
            plant(each for datasets in study.values() for each in datasets)
            for dataset in (each for datasets in study.values() for each in datasets):
                dataset.StudyInstanceUID += f".{number}"
                dataset.PatientID += str(number)
            save_study(study, export / f"{NAME}_{number}")
            about = {"case_id": f"ROW_ZZ_{number}", "patient_key": f"KEY-{NUMBER}-{number}", "psa": float(PSA)}
            about |= {"dicom_dir": f"{NAME}_{number}", "mri_date": "1901-02-03"}
            rows.append(StudyRow.model_validate({**about, "case_csPCa": "YES" if number % 2 else "NO"}))
    finally:
        config.settings.writing_validation_mode = None
    init_site(north, "north")
    site_file = north / "site.toml"
    keys = 'share_cohort = true\nminimum_cell = 1\nthreads = 1\ncenter = "ZZCENTER"\nprivacy.minimum_cohort = 1\n'
    server = '[server]\naddress = "fl.example.org:8000"\nroot_certificates = "ca.crt"\nkey = "north.key"\n'
    site_file.write_text(f'{keys}dicom = "{export}"\n{site_file.read_text()}\n{server}')
    reads = [ReadRow(case_id=row.case_id, lesion_id="L1", reader_id=READER, pirads=4) for row in rows]
    lesions = [LesionRow(case_id=row.case_id, lesion_id="L1", gleason="3+4", isup=2, zone="PZ") for row in rows]
    for name, model, found in (
        ("studies.csv", StudyRow, rows),
        ("lesions.csv", LesionRow, lesions),
        ("reads.csv", ReadRow, reads),
    ):
        lines = [{key: "" if value is None else value for key, value in each.model_dump().items()} for each in found]
        write_table(north / "manifest" / name, tuple(model.model_fields), lines)
    site = read_site_file(site_file)
    index_site(replace(request_index(site, STUDY.data, None), workers=1))
    records = open_case_folder(site.cases).records
    assert len(records) == PATIENTS
    planted = {
        NAME,
        NUMBER,
        DATE,
        "1901-02-03",
        "03.02.1901",
        ROOT,
        READER,
        PSA,
        TEXT,
        "ROW_ZZ_",
        "ZZCENTER",
        str(export),
    }
    planted |= {each for record in records for each in (record.case_id, record.patient_id)}
    planted |= {row.patient_key or "" for row in rows} | {f"{NUMBER}{number}" for number in range(PATIENTS)}
    planted.add(site.secret.read_text().strip())
    return site_file, tuple(sorted(planted))


def list_forms(text: str) -> Iterator[bytes]:
    """Yield the forms in which a text is easily told."""
    plain = {text, text.lower(), text.upper()}
    for each in plain:
        yield from (each.encode(), each.encode("utf-16-le"), each.encode("utf-16-be"), each[::-1].encode())
        for raw in (each.encode(), each.encode("utf-16-le")):
            yield raw.hex().encode()
            for shift in range(3):  # base64 of a text in which it stands somewhere
                yield base64.b64encode(b"\0" * shift + raw)[4 if shift else 0 : -4]
        for algorithm in ("md5", "sha1", "sha256"):
            digest = hashlib.new(algorithm, each.encode()).digest()
            yield from (digest, digest.hex().encode(), base64.b64encode(digest).rstrip(b"="))


def find_planted(found: Mapping[str, bytes], planted: tuple[str, ...]) -> list[str]:
    """Return what was planted and where it was found."""
    return [
        f"{text} in {place}" for text in planted for form in set(list_forms(text)) for place, data in found.items()
        if len(form) > 5 and form in data
    ]  # fmt: skip


class Wire:
    """A coordinator that asks, and keeps every byte that comes back."""

    def __init__(self, site_file: Path) -> None:
        self.site_file, self.came = site_file, dict[str, bytes]()

    def ask(self, request: Request, study: Study = STUDY, spoil: Callable[[Any], None] = lambda _: None) -> Any:
        message = make_message(request, run=1)
        spoil(message)
        answer = site_app.respond(message, self.site_file, {"study": study.canonical(), "run": "run"})
        parts = b"".join(part.deflate() for part in get_all_nested_objects(answer).values())
        self.came[f"message {len(self.came) + 1}"] = parts + repr(vars(answer.metadata)).encode()
        return unpack_reply(answer, replace(request, returns=None))


def use(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, bytes]:
    """Do with a hospital all that a coordinator and its people can, and return each message and each telling file."""
    open_workplace.cache_clear()
    folder, wire, hash_ = site_file.parent, Wire(site_file), STUDY.hash()
    train = Request("train", "run", hash_, 1, 1, initial(STUDY))
    judge = replace(train, action="evaluate", splits=("validation",))
    assert wire.ask(Request("hello", study_hash=OTHER.hash()), OTHER) == Refusal("NOT_APPROVED")
    approve(site_file, STUDY, rounds=9)
    hello = wire.ask(Request("hello", study_hash=hash_))
    assert isinstance(hello, Reply)
    assert hello.metrics["cohort/csPCa/yes"] == PATIENTS // 2, "a control: it tells of its cohort"
    assert isinstance(wire.ask(train), Reply)
    assert isinstance(wire.ask(replace(train, round=2)), Reply)
    for splits in (("train",), ("validation",), ("test", "validation")):
        assert isinstance(wire.ask(replace(judge, round=2, splits=splits)), Reply)
    refused = [wire.ask(replace(judge, splits=("case-1",))), wire.ask(replace(train, stage=9))]
    refused.append(wire.ask(train, spoil=lambda message: message.content.config_records.clear()))
    for error in (
        DataError(TEXT),
        OSError(2, "No such file", f"/export/{NAME}/x.dcm"),
        KeyError(TEXT),
        ValueError(TEXT),
    ):

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(work, "train_round", fail)
            refused.append(wire.ask(replace(train, run=f"run-{type(error).__name__}")))
    assert all(isinstance(each, Refusal) for each in refused), refused
    with pytest.raises(ApprovalError):
        require_approval(site_file, OTHER, train)
    held = replace(train, run="held")
    with pytest.raises(HeldError):
        outbox.require_release(folder, held, Reply("north", hash_, 1, 1, 4, train.tensors))
    outbox.decide(folder, outbox.read_outbox(folder)[-1].number, "declined", "jane", "not now")
    StatusFile(folder, Status(run="run", stage=1, round=2))
    assert {line["event"] for line in read_audit(folder)[0]} >= {"request", "approved", "received", "answered", "held"}
    write_dossier(folder / "dossiers", "run", make_dossier(site_file, "run"))
    files = {path for pattern in TELLING for path in folder.glob(pattern) if path.is_file()}
    assert {path.name for path in files} >= {
        "outbox.jsonl",
        "audit.jsonl",
        "status.json",
        f"{hash_}.json",
        "run.html",
        "run.json",
    }
    return wire.came | {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def fresh(hospital: tuple[Path, tuple[str, ...]]) -> Iterator[Path]:
    """The site file, of a site that has answered nothing yet."""
    site_file, _ = hospital
    yield site_file
    for pattern in ("outbox*", "audit*", "requests", "approvals", "status.json", "memory", "dossiers"):
        for path in site_file.parent.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_nothing_of_a_patient_leaves_or_is_told_of(
    fresh: Path, hospital: tuple[Path, tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = use(fresh, monkeypatch)
    assert len(found) > 15
    assert not find_planted(found, hospital[1])


def test_what_was_planted_is_there_to_be_found(hospital: tuple[Path, tuple[str, ...]]) -> None:
    site_file, planted = hospital
    kept = [*(site_file.parent / "manifest").iterdir(), *(site_file.parent / "cases").iterdir(), site_file]
    said = find_planted({path.name: path.read_bytes() for path in kept}, planted)
    for text in (NAME, READER, "ROW_ZZ_", PSA, "ZZCENTER"):
        assert any(each.startswith(f"{text} in") for each in said), text


def leak_a_code(patch: pytest.MonkeyPatch, text: str) -> None:
    refuse = site_app.refuse
    patch.setattr(site_app, "refuse", lambda error: Refusal(str(error)) if text in str(error) else refuse(error))


def leak_in_tensors(patch: pytest.MonkeyPatch, text: str) -> None:
    train = work.train_round

    def train_and_hide(*arguments: Any) -> Reply:
        reply = train(*arguments)
        name, array = next((name, array) for name, array in reply.tensors.items() if array.nbytes > 200)
        hidden = np.array(array)
        hidden.reshape(-1).view(np.uint8)[: len(text) * 2] = list(text.encode("utf-16-le"))
        return replace(reply, tensors={**reply.tensors, name: hidden})

    patch.setattr(work, "train_round", train_and_hide)


def leak_in_the_outbox(patch: pytest.MonkeyPatch, text: str) -> None:
    describe = outbox._describe
    digest = hashlib.sha256(text.encode()).hexdigest()
    patch.setattr(outbox, "_describe", lambda *asked: {**describe(*asked), "patients": [digest]})


def leak_in_the_audit(patch: pytest.MonkeyPatch, text: str) -> None:
    from prostafed.client.gate import audit

    write, hidden = audit.add_rotating, base64.b64encode(f"of {text}.".encode()).decode()
    patch.setattr(audit, "add_rotating", lambda path, line: write(path, {**line, "who": hidden}))


def leak_in_the_dossier(patch: pytest.MonkeyPatch, text: str) -> None:
    patch.setattr(answers, "say_metrics", lambda names: f"of {text}")


@pytest.mark.parametrize(
    "leak", [leak_a_code, leak_in_tensors, leak_in_the_outbox, leak_in_the_audit, leak_in_the_dossier]
)
def test_a_leak_is_found(
    leak: Callable[[pytest.MonkeyPatch, str], None],
    fresh: Path,
    hospital: tuple[Path, tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leak(monkeypatch, NAME)
    assert any(each.startswith(NAME) for each in find_planted(use(fresh, monkeypatch), hospital[1]))
