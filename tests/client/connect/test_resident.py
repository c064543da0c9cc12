"""The site's link, with a coordinator and a worker that are tables: what it refuses, what it repeats, when it ends."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.connect import resident
from prostafed.client.connect.fleet import Incoming, Outgoing, Run, read_announced
from prostafed.client.connect.kept_worker import DiedError, MemoryLimitError
from prostafed.client.connect.pace import Pace
from prostafed.client.connect.reach import RefusedError, RunOverError, TooLargeError, UnreachableError
from prostafed.client.connect.resident import run_link
from prostafed.client.connect.status import LINK_LOCK, read_status
from prostafed.client.gate.halt import go_on, halt
from prostafed.client.gate.outbox import decide, read_outbox, require_release
from prostafed.client.site.site_file import open_site
from prostafed.common.errors import ApprovalError, ConfigurationError, HeldError, RoundError
from prostafed.common.exchange.app_bundle import bundle_hash
from prostafed.common.exchange.kinds import MESSAGE_TYPES
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.files import holding

from .coordinator import ASKED, NODE, announce

ANSWER = Outgoing(b"", b"", {"a": b"1"})
HELLO = Request("hello", study_hash="abc")
GOOD = Run(bundle_hash(), {"study": "{}", "run": "run-1"})


def take_in(request: Request = ASKED) -> Incoming:
    return read_announced(announce(request)[0].SerializeToString(), NODE)


class FakeFleet:
    """A coordinator that hands out `messages`, then asks the link to end; `fails` are raised by a call's name, one a
    call, and None is no failure. It knows the site by `nodes`, one an activation, the last for good.
    """

    def __init__(
        self,
        messages: Sequence[Incoming],
        run: Run = GOOD,
        nodes: Sequence[int] = (NODE,),
        **fails: list[Exception | None],
    ) -> None:
        self.node_id, self._messages, self._run, self._fails = 0, list(messages), run, fails
        self._nodes = list(nodes)
        self.pushed: list[str] = []
        self.calls: list[str] = []

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if (waiting := self._fails.get(name)) and (error := waiting.pop(0)):
            raise error

    def activate(self) -> int:
        self._note("activate")
        self.node_id = self._nodes.pop(0) if len(self._nodes) > 1 else self._nodes[0]
        return self.node_id

    def heartbeat(self) -> None:
        self._note("heartbeat")

    def pull(self) -> Incoming | None:
        self._note("pull")
        if not self._messages:
            os.kill(os.getpid(), signal.SIGTERM)
            return None
        return self._messages.pop(0)

    def run_of(self, incoming: Incoming) -> Run:
        self._note("run_of")
        return self._run

    def fetch(self, incoming: Incoming, largest: int) -> dict[str, bytes]:
        self._note("fetch")
        return {"a": b"1"}

    def push(
        self, outgoing: Outgoing, incoming: Incoming, seconds: float, may_go: Callable[[], None] = lambda: None
    ) -> None:
        self._note("push")
        may_go()
        self.pushed.append(outgoing.refusal or "answer")

    def deactivate(self) -> None:
        self._note("deactivate")

    def close(self) -> None:
        self._note("close")


class FakeWorker:
    """A worker that answers, or raises what is next in `fails`."""

    fails: list[Exception | None]
    asked: int
    ended: int

    def __init__(self, *_: object) -> None:
        FakeWorker.asked = FakeWorker.ended = 0

    def keep(self) -> None:
        pass

    def ask(self, incoming: Incoming, contents: object, run: Run, watch: Callable[[], None]) -> Outgoing:
        FakeWorker.asked += 1
        watch()
        if FakeWorker.fails and (error := FakeWorker.fails.pop(0)):
            raise error
        return ANSWER

    def end(self) -> None:
        FakeWorker.ended += 1


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return what runs a link over messages to its end, and gives what was pushed."""
    monkeypatch.setattr(resident, "KeptWorker", FakeWorker)
    monkeypatch.setattr(resident, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(resident, "IDLE_S", 0.0)
    FakeWorker.fails = []

    def run(messages: Sequence[Incoming], limits: str = "", **fails: Any) -> list[str]:
        (tmp_path / "cases").mkdir(exist_ok=True)
        site_file = tmp_path / "site.toml"
        server = '[server]\naddress = "fl:1"\nroot_certificates = "ca.crt"\nkey = "site.key"\n'
        site_file.write_text(f'name = "north"\n{server}[worker]\nfree_disk_gb = 0\n{limits}\n')
        site = open_site(site_file)
        assert site.server is not None
        fleet = FakeFleet(messages, **fails)
        monkeypatch.setattr(resident, "Fleet", lambda *_: fleet)
        try:
            run_link(site_file, site, site.server, lambda: fleet.calls.append("ready"))
        finally:
            link_calls[:] = fleet.calls
        return fleet.pushed

    return run


link_calls: list[str] = []


def audit(folder: Path) -> list[dict[str, Any]]:
    path = folder / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_request_is_answered_and_the_link_ends_when_it_is_asked_to(link: Any, tmp_path: Path) -> None:
    assert link([take_in(), take_in(HELLO)]) == ["answer", "answer"]
    assert link_calls[:2] == ["activate", "ready"]
    assert link_calls[-2:] == ["deactivate", "close"]
    assert FakeWorker.ended == 1
    status = read_status(tmp_path)
    assert status is not None
    assert (status.state, status.answered, status.refused, status.node_id) == ("stopped", 2, 0, NODE)


def test_each_question_waits_for_its_time(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[Pace]()

    def keep(pace: Pace) -> None:
        kept.append(pace)

    monkeypatch.setattr(Pace, "keep", keep)
    link([take_in(), take_in(HELLO)])
    assert len(kept) == 2


def refused(link: Any, tmp_path: Path, code: str, *arguments: Any, **fails: Any) -> None:
    """Check that a message is answered with `code`, that the audit says so, and that the worker was left alone."""
    assert link([take_in()], *arguments, **fails) == [code]
    assert FakeWorker.asked == 0
    assert [(line["event"], line["code"], line["stage"]) for line in audit(tmp_path)] == [("refused", code, 2)]


def test_another_bundle_is_refused(link: Any, tmp_path: Path) -> None:
    refused(link, tmp_path, "WRONG_RELEASE", run=Run("f" * 64, {"study": "{}"}))


def test_a_run_without_a_study_is_refused(link: Any, tmp_path: Path) -> None:
    refused(link, tmp_path, "UNKNOWN_REQUEST", run=Run(bundle_hash(), {"study": 1}))


def test_a_kind_that_nobody_knows_is_refused(link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "MESSAGE_TYPES", {"hello": "query.hello"})
    refused(link, tmp_path, "UNKNOWN_REQUEST")


def test_a_request_that_is_too_large_is_refused(link: Any, tmp_path: Path) -> None:
    refused(link, tmp_path, "CONFIGURATION", fetch=[TooLargeError("large")])


def test_a_disk_that_is_nearly_full_takes_no_round(link: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        link([take_in()], "free_disk_gb = 1")  # the key is there already
    with pytest.MonkeyPatch.context() as patch:
        usage = resident.shutil.disk_usage(tmp_path)
        patch.setattr(resident.shutil, "disk_usage", lambda _: usage._replace(free=-1))
        refused(link, tmp_path, "STORAGE")


def test_outside_its_hours_a_site_says_hello_and_no_more(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "is_within", lambda hours, _: hours != "20:00-06:00")
    assert link([take_in(HELLO), take_in()], 'hours = "20:00-06:00"') == ["answer", "RESTING"]
    assert link([take_in()], 'hours = "06:00-20:00"') == ["answer"]
    for kind, said in (("keys", "RESTING"), ("shares", "RESTING"), ("agree", "answer"), ("unmask", "answer")):
        incoming = replace(take_in(), kind=MESSAGE_TYPES[kind])  # an update that has left is not left alone
        assert link([incoming], 'hours = "20:00-06:00"') == [said]


def test_a_worker_that_dies_gets_the_message_once_more(link: Any) -> None:
    FakeWorker.fails = [DiedError("died")]
    assert link([take_in()]) == ["answer"]
    FakeWorker.fails = [DiedError("died"), DiedError("died")]
    assert link([take_in(), take_in()]) == ["CRASHED", "answer"]


def test_a_worker_that_takes_too_much_memory_is_not_tried_again(link: Any) -> None:
    FakeWorker.fails = [MemoryLimitError("much")]
    assert link([take_in()]) == ["MEMORY"]
    assert FakeWorker.asked == 1


def test_an_absent_coordinator_is_waited_for_at_every_call(link: Any, tmp_path: Path) -> None:
    away = [UnreachableError("It is away."), UnreachableError("It is away.")]
    for call in ("activate", "pull", "run_of", "fetch", "push"):
        assert link([take_in()], **{call: list(away)}) == ["answer"], call
    assert link_calls.count("push") == 3
    status = read_status(tmp_path)
    assert status is not None
    assert status.error == "", "it is there again"


def test_an_answer_nobody_waits_for_is_dropped_and_work_goes_on(link: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert link([take_in(), take_in()], push=[RunOverError("The run is over."), None]) == ["answer"]
    assert "is dropped: The run is over." in caplog.text


def test_who_sits_at_the_terminal_reads_once_that_a_study_waits_for_a_decision(
    link: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FakeWorker, "ask", lambda *_: Outgoing(b"", b"", {}, ApprovalError.code))
    assert link([take_in(), take_in()]) == ["NOT_APPROVED", "NOT_APPROVED"]
    assert caplog.text.count("A study waits for your decision") == 1


def test_a_key_that_is_not_enrolled_is_an_argument_that_is_wrong(link: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"refused the key .*site\.key.*enrol"):
        link([], activate=[RefusedError("no")])
    status = read_status(tmp_path)
    assert status is not None
    assert status.state == "refused"
    assert "refused the key" in status.error
    assert "ready" not in link_calls


@pytest.mark.parametrize("call", ["pull", "fetch", "push"])
def test_a_site_that_is_revoked_meanwhile_ends_with_a_sentence(call: str, link: Any) -> None:
    with pytest.raises(RoundError, match="revoked this site"):
        link([take_in()], **{call: [RefusedError("no")], "activate": [None, RefusedError("no")]})
    assert FakeWorker.ended == 1


def test_a_coordinator_that_forgot_its_sites_and_takes_this_one_again_is_worked_for(link: Any) -> None:
    assert link([take_in()], pull=[RefusedError("no")]) == ["answer"]
    assert link_calls.count("activate") == 2


def test_an_answer_to_a_coordinator_that_was_killed_and_started_anew_is_dropped(
    link: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It knows the site by another number, and takes no answer in the name of the old one: it asks again."""
    assert link([take_in()], push=[RefusedError("no")] * 3, nodes=(NODE, NODE + 1)) == []
    assert link_calls.count("push") == 1
    assert "started anew, and asks again" in caplog.text


def test_a_heartbeat_that_is_refused_ends_the_work(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: FakeWorker, incoming: Incoming, contents: object, run: Run, watch: Callable[[], None]) -> Outgoing:
        while True:  # a round that takes for ever
            watch()

    monkeypatch.setattr(FakeWorker, "ask", ask)
    monkeypatch.setattr(resident, "HEARTBEAT_S", 0.0)
    monkeypatch.setattr(resident, "STATUS_S", 0.01)
    with pytest.raises(RoundError, match="revoked"):
        link([take_in()], heartbeat=[None, RefusedError("no")], activate=[None, RefusedError("no")])


def test_one_link_runs_for_a_site(link: Any, tmp_path: Path) -> None:
    with holding(tmp_path / LINK_LOCK), pytest.raises(ConfigurationError, match=r"runs for .* already"):
        link([])
    assert link([take_in()]) == ["answer"], "the lock of one that has ended holds nobody up"


def stop(folder: Path) -> None:
    halt(folder, "jane")


def test_a_halted_site_says_so_and_no_more(link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was halted after it had connected."""
    pull = FakeFleet.pull

    def pull_halted(self: FakeFleet) -> Incoming | None:
        stop(tmp_path)
        status = read_status(tmp_path)
        assert status is not None
        return pull(self)

    monkeypatch.setattr(FakeFleet, "pull", pull_halted)
    assert link([take_in(HELLO), take_in()]) == ["HALTED", "HALTED"]
    assert FakeWorker.asked == 0
    assert "fetch" not in link_calls


def test_one_that_is_halted_as_it_starts_connects_to_nobody(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop(tmp_path)
    states = []

    def wait(seconds: float) -> None:
        status = read_status(tmp_path)
        assert status is not None
        states.append(status.state)
        assert not link_calls or link_calls[-1] == "close", "of another test"
        if len(states) == 3:
            go_on(tmp_path, "jane")

    monkeypatch.setattr(resident.time, "sleep", wait)
    link_calls.clear()
    assert link([take_in()]) == ["answer"]
    assert states[:3] == ["halted"] * 3
    assert "Halted since" in caplog.text
    assert "connects after prostafed-site go-on" in caplog.text


def test_training_is_ended_where_a_site_is_halted_meanwhile(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: FakeWorker, incoming: Incoming, contents: object, run: Run, watch: Callable[[], None]) -> Outgoing:
        stop(tmp_path)
        watch()
        return ANSWER

    monkeypatch.setattr(FakeWorker, "ask", ask)
    assert link([take_in()]) == ["HALTED"]
    assert FakeWorker.ended == 2, "once to keep the round in the making, once at the end"
    assert [line.get("code", line["event"]) for line in audit(tmp_path)] == ["halted", "HALTED"]


def test_an_answer_that_is_ready_as_a_site_is_halted_does_not_leave(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> Outgoing:
        stop(tmp_path)
        return ANSWER

    monkeypatch.setattr(FakeWorker, "ask", ask)
    assert link([take_in()]) == ["HALTED"]


def test_an_upload_is_broken_off_where_a_site_is_halted_meanwhile(
    link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = FakeFleet._note

    def note_and_halt(self: FakeFleet, name: str) -> None:
        note(self, name)
        if name == "push":
            stop(tmp_path)

    monkeypatch.setattr(FakeFleet, "_note", note_and_halt)
    assert link([take_in(), take_in(HELLO)]) == ["HALTED"], "only the word, to the next question"
    (entry,) = read_outbox(tmp_path)
    assert (entry.state, entry.line["run"], entry.line["stage"], entry.line["round"]) == ("broken off", "run-1", 2, 3)
    assert [line["event"] for line in audit(tmp_path)] == ["halted", "broken off", "refused", "halted"]


@pytest.mark.parametrize(("decision", "code"), [("", "HELD"), ("declined", "DECLINED"), ("released", "answer")])
def test_of_an_update_that_waits_nothing_is_fetched_again(decision: str, code: str, link: Any, tmp_path: Path) -> None:
    request = Request("train", "run-1", "abc", 2, 3, {})
    with pytest.raises(HeldError):
        require_release(tmp_path, request, Reply("north", "abc", 2, 3, 5))
    if decision:
        decide(tmp_path, 1, decision, "jane")
    other = Request("train", "run-1", "abc", 2, 4, {})
    assert link([take_in(request), take_in(other)]) == [code, "answer"]
    assert link_calls.count("fetch") == (2 if code == "answer" else 1)


def test_the_status_says_what_is_worked_on(link: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def ask(*_: object) -> Outgoing:
        seen.append(read_status(tmp_path))
        return ANSWER

    monkeypatch.setattr(FakeWorker, "ask", ask)
    link([take_in()])
    (status,) = seen
    assert status is not None
    assert (status.state, status.run, status.stage, status.round) == ("working", "run-1", 2, 3)


def test_a_run_of_another_release_is_said_until_one_of_this_comes(link: Any, tmp_path: Path) -> None:
    def is_other() -> bool:
        status = read_status(tmp_path)
        assert status is not None
        return status.other_release

    link([take_in()], run=Run("f" * 64, {"study": "{}"}))
    assert is_other()
    link([take_in()])
    assert not is_other()
