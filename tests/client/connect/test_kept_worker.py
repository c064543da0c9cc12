"""A real worker, in a process of its own: it answers, it is started again, it leaves where it is asked to."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prostafed.client.connect import kept_worker
from prostafed.client.connect.fleet import Incoming, Run, inflate_object_from_contents, read_announced
from prostafed.client.connect.kept_worker import DiedError, KeptWorker, MemoryLimitError
from prostafed.client.connect.status import Status, StatusFile, read_status
from prostafed.client.gate.audit import read_audit
from prostafed.common.exchange.messages import Refusal, Request
from prostafed.common.exchange.wire import unpack_reply
from prostafed.common.shell.keys import create_node_key
from prostafed.common.study import Study
from tests.client.gate.approved import SERVER, approve
from tests.client.tiny_site import FINETUNE, initial, make_study, write_site

from .coordinator import NODE, announce

STUDY = make_study({**FINETUNE, "rounds": 2, "epochs": 400})


class Bench:
    """A site of ten cases, its study, and a worker."""

    def __init__(self, folder: Path, most_bytes: int = 0) -> None:
        self.site_file = write_site(folder / "site", f"checkpoint_minutes = 60\n{SERVER}")
        create_node_key(folder / "site" / "north.key", "north")
        self.status = StatusFile(folder / "site", Status())
        self.worker = KeptWorker(self.site_file, most_bytes, self.status)

    def ask(self, request: Request, watch: Callable[[], None] = lambda: None, study: Study = STUDY) -> object:
        announcement, contents = announce(request)
        run = Run("", {"study": study.canonical()})
        incoming: Incoming = read_announced(announcement.SerializeToString(), NODE)
        answer = self.worker.ask(incoming, contents, run, watch)
        (head,) = answer.contents.keys() - {
            child for content in answer.contents.values() for child in _children(content)
        }
        return unpack_reply(inflate_object_from_contents(head, dict(answer.contents)), request)  # type: ignore[arg-type]


def _children(content: bytes) -> list[str]:
    return content.split(b"\x00", 1)[0].decode().split(" ")[1].split(",")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"))
    yield made
    made.worker.end(0.0)


def train(study: Study) -> Request:
    return Request("train", "run", study.hash(), 1, 1, initial(study))


def partial(bench: Bench) -> list[Path]:
    return list(bench.site_file.parent.glob("memory/run/stage-1/partial-*.pt"))


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_worker, "LOOK_S", 0.05)


def test_a_study_nobody_approved_is_not_opened(bench: Bench) -> None:
    assert bench.ask(Request("hello", study_hash=STUDY.hash())) == Refusal("NOT_APPROVED")
    assert not (bench.site_file.parent / "memory").exists(), "no case was looked at"
    status = read_status(bench.site_file.parent)
    assert status is not None
    assert (status.worker.state, status.worker.device) == ("ready", "cpu")


def test_an_approved_one_is_answered_and_that_is_recorded(bench: Bench) -> None:
    approve(bench.site_file, STUDY, rounds=100)
    reply = bench.ask(Request("hello", study_hash=STUDY.hash()))
    assert getattr(reply, "site", "") == "north"
    lines, wrong = read_audit(bench.site_file.parent)
    assert not wrong
    assert [line["event"] for line in lines][-3:] == ["approved", "received", "answered"]


def test_a_killed_worker_is_said_and_the_next_one_answers(bench: Bench) -> None:
    def kill() -> None:
        if bench.status.status.worker.pid:
            os.kill(bench.status.status.worker.pid, signal.SIGKILL)

    with pytest.raises(DiedError, match=r"worker\.log"):
        bench.ask(train(STUDY), kill)
    assert bench.status.status.worker.state == "absent"
    assert getattr(bench.ask(Request("hello", study_hash=STUDY.hash())), "site", "") == "north"


def test_a_worker_that_is_asked_to_leave_keeps_its_round(bench: Bench) -> None:
    """The next one goes on there: what it keeps is of this round, and comes long before the hour of a checkpoint."""
    began = time.monotonic()

    class LeaveError(Exception):
        pass

    def leave() -> None:
        if time.monotonic() - began > 2.0:  # it trains by now, for some ten seconds more
            raise LeaveError

    with pytest.raises(LeaveError):
        bench.ask(train(STUDY), leave)
    assert not partial(bench)
    ended = time.monotonic()
    bench.worker.end()
    assert time.monotonic() - ended < kept_worker.LEAVE_S / 2  # it left, and was not killed
    assert [path.name for path in partial(bench)] == ["partial-00001.pt"]
    assert "answer" not in " ".join(path.name for path in bench.site_file.parent.glob("memory/run/stage-1/*"))


def test_a_worker_that_takes_more_memory_than_granted_is_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path, most_bytes=1)
    with pytest.raises(MemoryLimitError, match="memory_gb"):
        bench.ask(Request("hello", study_hash=STUDY.hash()))
    assert bench.status.status.worker.pid == 0


def test_a_worker_ends_with_its_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.worker.keep()
    child = bench.worker._child
    assert child is not None
    assert bench.worker._link is not None
    bench.worker.end(20.0)
    assert child.process.returncode in (0, -signal.SIGTERM)  # before its first line it has no handler yet
