"""What the coordinator has to mend is said: who is not there, who waits, what ends, who was refused."""

import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.exchange.app_bundle import bundle_hash
from prostafed.common.shell.chained_file import add_line
from prostafed.common.shell.files import make_folder
from prostafed.common.shell.health import Condition
from prostafed.server.cli import app
from prostafed.server.link import health, link
from prostafed.server.link.health import check_certificates, check_door, check_link, check_run, describe_coordinator
from prostafed.server.link.link import Link, create_home
from prostafed.server.link.pki import Pki, replace_server_certificate
from prostafed.server.records.lines import WaitingLine

from .knocking import activate, open_fleet, open_stranger, read_key, running_link

NOW = datetime.now(UTC)
TOLD = {"bundle": bundle_hash(), "fit": True, "address": "127.0.0.1:8000"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_home(tmp_path / "coordinator", ("fl.example.org",))
    return tmp_path / "coordinator"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Link, str]]:
    with running_link(tmp_path, "north", "south") as found:
        yield found


def connect(folder: Path, address: str, *sites: str) -> None:
    for name in sites:
        key = read_key(folder / f"{name}.key")
        with open_fleet(folder, address, key) as fleet:
            activate(fleet, key)


def failing(home: Path) -> dict[str, Condition]:
    return {each.name: each for each in describe_coordinator(home).conditions if not each.ok}


def test_a_site_that_is_missing_is_named(running: tuple[Link, str], tmp_path: Path) -> None:
    link, address = running
    connect(tmp_path, address, "north")
    wrong = failing(link.home)
    assert list(wrong) == ["site south"]
    assert "Not seen since the link was started" in wrong["site south"].text
    assert "prostafed-site status" in wrong["site south"].fix
    connect(tmp_path, address, "south")
    told = describe_coordinator(link.home)
    assert told.exit_code == 0, told.say()
    assert told.say().startswith("Ready: 2 of 2 sites are connected. No run goes on.")
    assert f"answers at {address}" in told.say()
    link.superlink.release_node(next(each.node_id for each in link.superlink.list_nodes() if each.name == "north"))
    assert "Not connected; seen last at" in failing(link.home)["site north"].text


@pytest.mark.parametrize(
    ("code", "ok", "fix"),
    [
        ("NOT_APPROVED", False, "prostafed-site requests"),
        ("APPROVAL_OVER", False, "approve the study again"),
        ("DATA", False, "its log"),
        ("RESTING", True, "other hours"),
        ("HALTED", False, "Ask the hospital why it lets nothing leave"),
    ],
)
def test_a_site_that_a_run_waits_for_is_named(
    code: str, ok: bool, fix: str, running: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, address = running
    connect(tmp_path, address, "north", "south")
    monkeypatch.setattr(link.runs, "names", lambda: ["tiny"])
    folder = make_folder(link.home / "runs" / "tiny")
    (folder / "waiting.json").write_text(json.dumps({"south": {"code": code, "since": "2026-01-02T03:04:05Z"}}))
    conditions = {each.name: each for each in describe_coordinator(link.home).conditions}
    south = conditions["site south"]
    assert south.ok is ok
    assert f"tiny waits for it since 2026-01-02 03:04 UTC: {code}." in south.text
    assert fix in south.fix
    assert conditions["run tiny"].text == f"Waits for south ({code})."


def test_no_hospital_yet_is_no_failure(tmp_path: Path) -> None:
    with running_link(tmp_path) as (link, _):
        told = describe_coordinator(link.home)
        assert told.ready
        assert "invite NAME" in told.say()


def test_no_link(home: Path) -> None:
    told = describe_coordinator(home)
    assert told.exit_code == 3
    assert "No link runs." in told.say()
    assert "prostafed-server start --home" in told.say()
    (home / "link.json").write_text("{}")  # what a link that is ended takes away
    assert "stopped without leaving" in failing(home)["link"].text


@pytest.mark.parametrize(
    ("told", "problem", "text"),
    [
        ({}, "No link runs.", "does not answer"),
        ({**TOLD, "bundle": "abc"}, "", "another release"),
        ({**TOLD, "fit": False}, "", "cannot serve"),
        (TOLD, "", ""),
    ],
)
def test_a_link_that_is_not_what_it_should_be(told: dict[str, Any], problem: str, text: str, home: Path) -> None:
    found = check_link(home, True, told, problem)
    assert found.ok is not text
    assert text in found.text
    assert bool(found.fix) is bool(text)


def test_a_folder_that_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no coordinator's home"):
        describe_coordinator(tmp_path)


@pytest.mark.parametrize(("days", "ok", "warns"), [(0, True, False), (3300, False, True), (4000, False, True)])
def test_certificates(days: int, ok: bool, warns: bool, home: Path) -> None:
    found = check_certificates(home, NOW + timedelta(days=days))
    assert found.ok is ok
    assert bool(found.fix) is warns
    assert "fl.example.org" in found.text


def test_an_authority_that_ends_within_a_year_is_said_and_fails_in_its_last_month(home: Path) -> None:
    replace_server_certificate(Pki(home / "pki"), (), NOW + timedelta(days=3000))
    early, late = (check_certificates(home, NOW + timedelta(days=days)) for days in (3300, 3630))
    assert (early.ok, late.ok) == (True, False)
    assert "send every site the new ca.crt" in early.fix


def test_a_certificate_that_nothing_can_renew(home: Path) -> None:
    (home / "pki" / "ca.key").unlink()
    assert check_certificates(home, NOW + timedelta(days=790)).ok
    late = check_certificates(home, NOW + timedelta(days=796))
    assert not late.ok
    assert "Bring it back" in late.fix


def test_a_certificate_that_cannot_be_read(home: Path) -> None:
    (home / "pki" / "server.crt").write_text("nothing")
    assert "no PEM certificate" in failing(home)["certificate"].fix


def test_who_was_refused_is_counted_by_reason(home: Path) -> None:
    path = home / "door.jsonl"
    assert check_door(home, NOW).text == "Nobody was refused in the last 24 hours."
    times = [NOW - timedelta(hours=hours) for hours in (30, 23, 2, 1)]
    for at, why in zip(times, ["old", "no enrolled key", "no enrolled key", "join: USED"], strict=True):
        add_line(path, {"event": "refused", "why": why, "asked": "x", "time": at.isoformat()})
    add_line(path, {"event": "enrolled", "site": "north", "time": NOW.isoformat()})
    found = check_door(home, NOW)
    assert found.ok
    assert "2 for no enrolled key, 1 for join: USED." in found.text
    assert "old" not in found.text
    assert "invite it again" in found.fix
    path.write_text(path.read_text().replace("join: USED", "join: FINE"))
    assert not check_door(home, NOW).ok
    assert "changed" in check_door(home, NOW).text


def test_what_a_stranger_asks_for_steers_no_terminal(home: Path) -> None:
    add_line(home / "door.jsonl", {"event": "refused", "why": "\x1b[2Jok", "time": NOW.isoformat()})
    assert "\x1b" not in describe_coordinator(home).say()


def test_how_far_a_run_is(home: Path) -> None:
    folder = make_folder(home / "runs" / "tiny")
    assert check_run(home, "tiny", {}).text == "Begins."
    (folder / "study.json").write_text(json.dumps({"study": {"stage": [{"rounds": 3}, {"rounds": 20}]}, "hash": "a"}))
    rows = [{"stage": 1, "round": 3, "kind": "pretrain"}, {"stage": 2, "round": 7, "kind": "finetune", "seconds": 2.1}]
    rows[1]["rejections"] = [{"site": "south", "code": "DATA", "text": ""}]
    (folder / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check_run(home, "tiny", {"west": WaitingLine(code="DATA", since="")})
    assert found.ok
    assert found.text == (
        "Stage 2 of 2, round 7 of 20 is done: finetune round 7 · loss none · 2.1 s · without south DATA."
    )
    (folder / "study.json").write_text("{}")
    assert not check_run(home, "tiny", {}).ok


def test_a_disk_that_is_full(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(health.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    assert failing(home)["disk"].fix == "Make room there."


def test_the_door_tells_the_outside_one_word(
    running: tuple[Link, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_, address = running
    monkeypatch.setattr(link, "_FIT_S", -1.0)
    usage = shutil.disk_usage(tmp_path)
    with open_stranger(tmp_path) as stranger:

        def ask() -> tuple[int, Any]:
            answer = stranger.get(f"https://{address}/health")
            return answer.status_code, answer.json()

        assert ask() == (200, {"status": "ok"})
        with monkeypatch.context() as full:
            full.setattr(link.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
            assert ask() == (503, {"status": "unavailable"})
            assert "cannot serve" in failing(link_.home)["link"].text
        assert ask() == (200, {"status": "ok"})
        monkeypatch.setattr(link_.runs, "_tended", time.monotonic() - 120)  # the main loop is stuck
        assert ask() == (503, {"status": "unavailable"})
        link_.runs.tend()
        assert ask() == (200, {"status": "ok"})


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_the_command_ends_with_the_code(
    as_json: list[str], running: tuple[Link, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link, address = running
    command = ["status", "--home", str(link.home), *as_json]
    assert app(command, standalone_mode=False) == 1
    connect(tmp_path, address, "north", "south")
    capsys.readouterr()
    assert app(command, standalone_mode=False) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["link"]["sites"][0]["name"] == "north" if as_json else said.startswith("Ready: 2 of 2")
