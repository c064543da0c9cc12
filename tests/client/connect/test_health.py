"""What keeps a site from training is said, each with its remedy, and nothing else is."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.cli import app
from prostafed.client.connect import conditions, health
from prostafed.client.connect.health import describe_site
from prostafed.client.connect.status import FILE, LINK_LOCK, UNUSABLE, WORKER_LOCK, Status, WorkerStatus
from prostafed.client.gate.approval_file import withdraw
from prostafed.client.gate.waiting import file_request
from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.app_bundle import bundle_hash
from prostafed.common.shell.files import holding
from prostafed.common.shell.health import Condition
from prostafed.common.shell.keys import create_node_key
from prostafed.server.link.pki import create_pki
from tests.client.gate.approved import SERVER, approve, day
from tests.client.tiny_site import FINETUNE, make_study, write_site

STUDY = make_study(FINETUNE)
NOW = datetime.now(UTC)
WORKER = WorkerStatus("ready", 4243, "NVIDIA H100", NOW.isoformat())


class Still(datetime):
    """A clock that stands, however long the tests before took."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return NOW.astimezone(tz)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "datetime", Still)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat(timespec="seconds")


STATUS = Status(
    state="connected",
    since=ago(60),
    pid=4242,
    coordinator="fl.example.org:8000",
    node_id=7,
    release="prostafed",
    bundle=bundle_hash(),
    last_contact=ago(5),
    worker=WORKER,
    written=ago(2),
)


class Hospital:
    """A site whose link and worker run, with cases and an approved study, until a test takes something away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site_file = write_site(folder, f"{SERVER}\n[worker]\nfree_disk_gb = 0")
        create_node_key(folder / "north.key", "north")
        shutil.copy(create_pki(folder.parent / "pki").ca_certificate, folder / "ca.crt")
        self.link, self.worker = ExitStack(), ExitStack()
        self.link.enter_context(holding(folder / LINK_LOCK))
        self.worker.enter_context(holding(folder / WORKER_LOCK))
        approve(self.site_file, STUDY)
        self.say()

    def say(self, **changes: Any) -> None:
        """Write status.json as the link would."""
        (self.folder / FILE).write_text(json.dumps(asdict(replace(STATUS, **changes))))

    def change_site(self, **settings: str) -> None:
        """Set keys of the site file."""
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        self.site_file.write_text(lines + self.site_file.read_text())

    def failing(self) -> list[Condition]:
        return [each for each in describe_site(self.site_file).conditions if not each.ok]

    def fails(self, name: str, text: str, fix: str) -> None:
        """Check that this is all that is wrong."""
        (failing,) = self.failing()
        assert failing.name == name
        assert text in failing.text
        assert fix in failing.fix


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path / "north")
    yield made
    made.link.close()
    made.worker.close()


def test_a_site_that_could_train_now_is_ready(hospital: Hospital) -> None:
    told = describe_site(hospital.site_file)
    assert told.exit_code == 0, told.say()
    names = "running connected release certificate device approved cases disk hours"
    assert " ".join(each.name for each in told.conditions) == names
    assert told.say().startswith("Ready: north works for fl.example.org:8000.\n")
    assert told.as_json()["status"]["worker"]["device"] == "NVIDIA H100"


@pytest.mark.parametrize(
    ("said", "text", "fix"),
    [
        ({"state": "connected"}, "stopped without leaving after", "Start it: prostafed-site start"),
        ({"state": "working", "written": "nonsense"}, "stopped without leaving", "Start it"),
        ({"state": "stopped"}, "was ended at", "Start it"),
        ({"state": "refused", "error": "The key is not enrolled."}, "refused it", "The key is not enrolled. Start it"),
    ],
)
def test_a_link_that_is_gone_is_told_by_its_lock_whatever_its_status_says(
    said: dict[str, str], text: str, fix: str, hospital: Hospital
) -> None:
    hospital.say(**said)
    hospital.link.close()
    hospital.fails("running", text, fix)
    assert describe_site(hospital.site_file).exit_code == 3


def test_a_site_that_never_ran_says_so(hospital: Hospital) -> None:
    (hospital.folder / FILE).unlink()
    hospital.link.close()
    hospital.fails("running", "never run", "Start it")


def test_a_link_that_has_not_written_yet_is_waited_for(hospital: Hospital) -> None:
    (hospital.folder / FILE).unlink()
    hospital.fails("running", "has not written its status", "Wait a moment")
    assert describe_site(hospital.site_file).exit_code == 1


@pytest.mark.parametrize(
    ("changes", "name", "text", "fix"),
    [
        ({"written": ago(120)}, "running", "written nothing for 2 minutes", "hangs, or the disk is full"),
        ({"last_contact": ago(100)}, "connected", "last contact 10", "ask the coordinator"),
        ({"last_contact": ""}, "connected", "never yet", "ask the coordinator"),
        ({"last_contact": "nonsense"}, "connected", "last contact", "ask the coordinator"),
        ({"state": "connecting"}, "connected", "Connecting to fl.example.org:8000", "Wait a moment"),
        (
            {"state": "connecting", "error": "The coordinator's certificate has expired. Ask it to renew."},
            "connected",
            "Not connected to fl.example.org:8000: last contact",
            "The coordinator's certificate has expired. Ask it to renew.",
        ),
        ({"other_release": True}, "release", "last run was not of prostafed", "Ask the coordinator for its release"),
        ({"bundle": "abc"}, "release", "is installed", "start it again"),
        ({"worker": replace(WORKER, device="", state="starting")}, "device", "being loaded", "Wait"),
        ({"worker": replace(WORKER, device="", started=ago(600))}, "device", "gone", "worker.log says why"),
        ({"worker": replace(WORKER, device=f"cuda, {UNUSABLE}")}, "device", f"cuda, {UNUSABLE}", "Run nvidia-smi"),
    ],
)
def test_what_the_link_and_the_worker_say_of_themselves(
    changes: dict[str, Any], name: str, text: str, fix: str, hospital: Hospital
) -> None:
    hospital.say(**changes)
    hospital.fails(name, text, fix)
    assert describe_site(hospital.site_file).exit_code == 1


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_was_asked_for_and_is_not_seen(device: str, hospital: Hospital) -> None:
    hospital.change_site(device=device)
    assert not hospital.failing()
    hospital.say(worker=replace(WORKER, device="cpu"))
    hospital.fails("device", f"asks for {device}, and the worker sees the CPU", "Run nvidia-smi")


def test_a_driver_whose_gpu_the_worker_does_not_see(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DEVICES", tmp_path)
    hospital.say(worker=replace(WORKER, device="cpu"))
    assert not hospital.failing(), "there is none"
    (tmp_path / "nvidia0").touch()
    hospital.fails("device", "has a GPU, and the worker sees the CPU", 'device = "cpu"')
    hospital.change_site(device="cpu")
    assert not hospital.failing()


def test_a_worker_that_was_killed_is_told_by_its_lock(hospital: Hospital) -> None:
    hospital.worker.close()
    hospital.fails("device", "The worker is gone", "the link starts another")


@pytest.mark.parametrize(
    ("days", "ok", "text"),
    [(0, True, "valid until"), (3630, True, "expires on"), (3651, False, "expired on"), (-2, False, "valid from")],
)
def test_the_coordinators_certificate(days: int, ok: bool, text: str, hospital: Hospital) -> None:
    found = conditions.check_certificate(health.read_site_file(hospital.site_file), NOW + timedelta(days=days))
    assert found.ok is ok
    assert text in found.text
    assert bool(found.fix) is (days != 0)


def test_a_certificate_that_cannot_be_read(hospital: Hospital) -> None:
    (hospital.folder / "ca.crt").write_text("nothing")
    hospital.fails("certificate", "ca.crt is not a certificate", "Ask the coordinator")


def test_an_approval_that_is_over_is_none(hospital: Hospital) -> None:
    approve(hospital.site_file, STUDY, until=day(-1))
    hospital.fails("approved", f"No study is approved. That of tiny ({STUDY.hash()[:12]}) ended", "prostafed-site appr")
    withdraw(hospital.site_file, approve(hospital.site_file, STUDY))
    hospital.fails("approved", "was withdrawn at", "Wait until the coordinator asks")


def test_an_approval_says_how_long_it_holds(hospital: Hospital) -> None:
    (approved,) = [each for each in describe_site(hospital.site_file).conditions if each.name == "approved"]
    assert approved.text == (f"tiny ({STUDY.hash()[:12]}) is approved until {day(0)}; 0 of 2 rounds are used.")


def test_an_approval_with_one_changed_byte(hospital: Hospital) -> None:
    path = hospital.folder / "approvals" / f"{STUDY.hash()}.json"
    path.write_text(path.read_text().replace('"rounds": 2', '"rounds": 3'))
    hospital.fails("approved", "does not count", "it was changed, or signed with another key")


def test_a_study_that_waits_is_to_be_decided_while_a_run_asks(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_study(FINETUNE, name="other")
    file_request(hospital.folder, other, "fl.example.org:8000")
    hospital.fails("approved", f"other ({other.hash()[:12]}) waits for your decision", f"approve {other.hash()[:12]}")
    monkeypatch.setattr(conditions, "WAITS_S", -1e9)
    assert not hospital.failing(), "nobody asks any more"
    assert "soon approved     other" in describe_site(hospital.site_file).say()


def test_cases_that_do_not_fit_the_study(hospital: Hospital) -> None:
    larger = make_study(FINETUNE, name="larger", data={"size": (8, 32, 32)})
    approve(hospital.site_file, larger)
    hospital.fails("cases", "No case fits larger", "Index them again for this study")


def test_a_site_without_cases(hospital: Hospital) -> None:
    shutil.rmtree(hospital.folder / "cases")
    hospital.fails("cases", "no cases", "Index")


def test_cases_that_are_indexed_meanwhile_are_counted(hospital: Hospital) -> None:
    def count() -> str:
        return next(each.text for each in describe_site(hospital.site_file).conditions if each.name == "cases")

    assert count() == "tiny admits 10 of 10 cases, of 10 patients."
    (hospital.folder / "cases" / "case3.safetensors").unlink()
    assert count() == "tiny admits 9 of 9 cases, of 9 patients."


def test_a_disk_that_is_nearly_full(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(hospital.folder)
    hospital.site_file.write_text(hospital.site_file.read_text().replace("free_disk_gb = 0", "free_disk_gb = 2"))
    monkeypatch.setattr(conditions.shutil, "disk_usage", lambda _: usage._replace(free=int(1.5e9)))
    hospital.fails("disk", "1.5 GB are free", "Make room")


@pytest.mark.parametrize("inside", [True, False])
def test_a_site_that_rests_is_ready(inside: bool, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital.site_file.write_text(hospital.site_file.read_text() + 'hours = "20:00-06:00"\n')
    monkeypatch.setattr(conditions, "is_within", lambda *_: inside)
    hospital.say(state="connected" if inside else "resting")
    told = describe_site(hospital.site_file)
    assert told.ready
    assert f"It works in 20:00-06:00. It {'works' if inside else 'rests'} now." in told.say()


def test_the_name_of_a_run_steers_no_terminal(hospital: Hospital) -> None:
    hospital.say(state="working", run="\x1b[2Jready\nReady: all")
    said = describe_site(hospital.site_file).say()
    assert "\x1b" not in said
    assert "\nReady: all" not in said


def test_a_site_file_that_is_wrong_is_no_state(hospital: Hospital) -> None:
    hospital.site_file.write_text("colour = 1")
    with pytest.raises(ConfigurationError, match="colour"):
        describe_site(hospital.site_file)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_ends_with_the_code(
    as_json: list[str], hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["status", str(hospital.site_file), *as_json]
    assert app(command, standalone_mode=False) == 0
    hospital.worker.close()
    assert app(command, standalone_mode=False) == 1
    hospital.link.close()
    capsys.readouterr()
    assert app(command, standalone_mode=False) == 3
    said = capsys.readouterr().out
    assert (json.loads(said)["running"] is False) if as_json else said.startswith("Not ready: running.")
