"""The site's link: it asks the coordinator for work and hands it to the worker. It opens no port and loads no torch.

What a hospital's limits forbid is refused here, without the worker. A link that was killed or cut off is handed again
what it has not answered.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from prostafed.client.connect.fleet import Fleet, Incoming, Outgoing, refuse_message
from prostafed.client.connect.kept_worker import DiedError, KeptWorker, MemoryLimitError
from prostafed.client.connect.pace import Pace
from prostafed.client.connect.reach import RefusedError, RunOverError, TooLargeError, UnreachableError
from prostafed.client.connect.status import LINK_LOCK, WRITTEN_EVERY_S, Status, StatusFile, now
from prostafed.client.gate.audit import record
from prostafed.client.gate.halt import is_halted, require_going, say_halt
from prostafed.client.gate.outbox import is_decided, note_broken_off
from prostafed.client.site.hours import is_within
from prostafed.client.site.site_file import Server, Site
from prostafed.common.errors import (
    ApprovalError,
    CheckpointError,
    ConfigurationError,
    DeclinedError,
    HaltedError,
    HeldError,
    RequestError,
    RoundError,
    StorageError,
)
from prostafed.common.exchange.app_bundle import NAME, bundle_hash
from prostafed.common.exchange.kinds import MESSAGE_TYPES, UNMASKING
from prostafed.common.shell.files import holding, make_folder
from prostafed.common.shell.logs import logging_to
from prostafed.common.shell.processes import interrupted_by_sigterm

HEARTBEAT_S, STATUS_S = 20.0, WRITTEN_EVERY_S
HALTED_S = 1.0  # so often a halted site looks whether it may go on
FIRST_WAIT_S, LAST_WAIT_S = 1.0, 10.0  # between tries to reach the coordinator
IDLE_S, LAST_IDLE_S = 0.5, 2.0  # between pulls of a coordinator that answers at once and has nothing

_REFUSED = (CheckpointError, DiedError, MemoryLimitError, RequestError, StorageError, TooLargeError)

logger = logging.getLogger("prostafed.site")
Given = TypeVar("Given")


def run_link(site_file: Path, site: Site, server: Server, on_ready: Callable[[], None]) -> None:
    """Work for the coordinator until SIGTERM or Ctrl-C; `on_ready` is called once it accepted this site.

    An absent coordinator is waited for. Raises ConfigurationError for a key that is not enrolled or a link that runs
    already, RoundError where the site is revoked meanwhile.
    """
    folder = site_file.resolve().parent
    fleet = Fleet(server.address, server.root_certificates, server.key)
    log = make_folder(folder / "logs") / "link.log"
    with holding(folder / LINK_LOCK) as ours, suppress(KeyboardInterrupt), interrupted_by_sigterm(), logging_to(log):
        if not ours:
            raise ConfigurationError(f"prostafed-site start runs for {site_file} already. End that one first.")
        status = StatusFile(
            folder, Status(coordinator=server.address, release=f"{NAME} {version(NAME)}", bundle=bundle_hash())
        )
        link = _Link(site_file.resolve(), site, fleet, status)
        try:
            link.wait_while_halted()
            with link.working():
                link.activate()
                on_ready()
                while True:
                    link.turn()
        except RefusedError as error:
            said = _say_refusal(server, link.accepted)
            status.change(state="refused", error=str(said))
            raise said from error
        finally:
            if status.status.state != "refused":
                status.change(state="stopped", run="", stage=0, round=0)
            fleet.close()


def _say_refusal(server: Server, accepted: bool) -> ConfigurationError | RoundError:
    if accepted:
        return RoundError(
            f"The coordinator {server.address} revoked this site: it knows the key {server.key} no more. Ask it why."
        )
    return ConfigurationError(
        f"The coordinator {server.address} refused the key {server.key}. Ask it to enrol {server.key}.pub."
    )


class _Link:
    """A running link. `accepted` tells whether the coordinator accepted the site since it started."""

    def __init__(self, site_file: Path, site: Site, fleet: Fleet, status: StatusFile) -> None:
        self._site, self._fleet, self._status = site, fleet, status
        self._folder = site_file.parent
        self._worker = KeptWorker(site_file, int(site.worker.memory_gb * 1e9), status)
        self._over, self._unknown = threading.Event(), threading.Event()
        self._idle_s, self._pace = IDLE_S, Pace()
        self._told_run = 0  # whose study waits for approval, as the terminal was told
        self.accepted = False

    def wait_while_halted(self) -> None:
        """Return once something may leave this site; until then the coordinator hears nothing of it."""
        if is_halted(self._folder):
            logger.warning("%s It connects after prostafed-site go-on.", say_halt(self._folder))
            self._status.change(state="halted")
        while is_halted(self._folder):
            time.sleep(HALTED_S)
            self._status.write()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep a worker, and tell coordinator and status file in the background that the link lives."""
        self._worker.keep()
        pulse = threading.Thread(target=self._beat, daemon=True)
        pulse.start()
        try:
            yield
        finally:
            self._over.set()
            self._worker.end()
            with suppress(UnreachableError, RefusedError, RunOverError):
                self._fleet.deactivate()

    def activate(self) -> None:
        """Connect, however long it takes; raises RefusedError."""
        for again in _waits():
            try:
                node_id = self._fleet.activate()
                break
            except UnreachableError as error:
                self._lost(error)
                again()
        self._unknown.clear()
        self.accepted = True
        self._status.change(state=self._idle_state(), node_id=node_id, error="", last_contact=now())

    def turn(self) -> None:
        """Ask for a message once, and answer it."""
        self._worker.keep()
        began = time.monotonic()
        incoming = self._insist(self._fleet.pull)
        self._status.change(state=self._idle_state(), error="", last_contact=now())
        if incoming is not None:
            self._idle_s = IDLE_S
            self._pace.keep()
            self._handle(incoming)
        elif time.monotonic() - began < IDLE_S:  # one that does not hold its answer back
            time.sleep(self._idle_s)
            self._idle_s = min(2 * self._idle_s, LAST_IDLE_S)

    def _handle(self, incoming: Incoming) -> None:
        """Answer a message."""
        stage, number = _read_group(incoming.group)
        self._status.change(state="working", stage=stage, round=number)
        began = time.monotonic()
        try:
            answer = self._answer(incoming)
            if not answer.refusal and is_halted(self._folder):
                answer = refuse_message(incoming, HaltedError.code)
            if answer.refusal:
                self._record_refusal(incoming, answer.refusal)
            took_s = time.monotonic() - began
            self._insist(lambda: self._push(answer, incoming, took_s))
            said = f"{incoming.kind} {incoming.group}: {answer.refusal or 'answered'}"
            logger.info("%s after %.2f s, sent in %.2f s.", said, took_s, time.monotonic() - began - took_s)
            told = self._status.status
            counted = {"refused": told.refused + 1} if answer.refusal else {"answered": told.answered + 1}
            self._status.change(**counted, last_contact=now())
        except RunOverError as error:
            logger.warning("A request of run %d is dropped: %s", incoming.run_id, error)
        except HaltedError as error:
            logger.warning("An answer was broken off. %s", error)
            self._record(lambda: note_broken_off(self._folder, self._status.status.run, stage, number))
        finally:
            self._status.change(state=self._idle_state(), run="", stage=0, round=0)

    def _push(self, answer: Outgoing, incoming: Incoming, seconds: float) -> None:
        if incoming.node_id != self._fleet.node_id:  # at each try: it may learn by this one that it is known no more
            raise RunOverError("The coordinator was started anew, and asks again.")
        if answer.refusal:
            self._fleet.push(answer, incoming, seconds)
            return
        require_going(self._folder)
        self._fleet.push(answer, incoming, seconds, lambda: require_going(self._folder))

    def _answer(self, incoming: Incoming) -> Outgoing:
        try:
            if code := self._forbid(incoming):
                return refuse_message(incoming, code)
            run = self._insist(lambda: self._fleet.run_of(incoming))
            ours = self._status.status.bundle  # of the release that runs, whatever is installed meanwhile
            self._status.change(other_release=run.bundle != ours)
            if run.bundle != ours:
                return refuse_message(incoming, "WRONG_RELEASE")
            if not isinstance(run.config.get("study"), str):
                raise RequestError("A run names no study, or one that is too long.")
            name = str(run.config.get("run", ""))
            self._status.change(run=name)
            if code := self._find_decision(incoming, name):
                return refuse_message(incoming, code)
            contents = self._insist(lambda: self._fleet.fetch(incoming, self._site.worker.largest_request_mb << 20))
            require_going(self._folder)
            try:
                return self._worker.ask(incoming, contents, run, self._watch)
            except DiedError as error:
                logger.warning("%s It is tried once more.", error)
                return self._worker.ask(incoming, contents, run, self._watch)
        except (*_REFUSED, HaltedError) as error:
            logger.warning("%s", error)
            if isinstance(error, HaltedError):
                self._worker.end()  # at its next step; the round goes on from there
            return refuse_message(incoming, error.code)

    def _record_refusal(self, incoming: Incoming, code: str) -> None:
        """Record a code that leaves. What is answered the worker records, and gate/approval.py what waits."""
        if code == ApprovalError.code:
            if incoming.run_id != self._told_run:  # the coordinator asks again and again
                logger.warning("A study waits for your decision. What it does: prostafed-site requests")
            self._told_run = incoming.run_id
            return
        stage, number = _read_group(incoming.group)
        facts: dict[str, str | int] = {"kind": incoming.kind, "stage": stage, "round": number, "code": code}
        self._record(lambda: record(self._folder, "refused", **facts))

    def _record(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (CheckpointError, StorageError) as error:
            logger.warning("%s", error)

    def _find_decision(self, incoming: Incoming, run: str) -> str:
        """Return the code of an update of this round that waits for a person or was declined, "" where there is none;
        its request is not fetched for that.
        """
        if incoming.kind != MESSAGE_TYPES["train"]:
            return ""
        place = (self._folder, run, *_read_group(incoming.group))
        held = {"waiting": HeldError.code, "declined": DeclinedError.code}
        return next((code for state, code in held.items() if is_decided(*place, state)), "")

    def _forbid(self, incoming: Incoming) -> str:
        """Return the code of why a message is not answered by this machine at this hour, "" where it is."""
        if incoming.kind not in MESSAGE_TYPES.values():
            return RequestError.code
        if is_halted(self._folder):
            return HaltedError.code
        at_any_hour = [MESSAGE_TYPES[action] for action in ("hello", *UNMASKING)]  # an update has left before
        if incoming.kind not in at_any_hour and self._is_resting():
            return "RESTING"
        if shutil.disk_usage(self._folder).free < self._site.worker.free_disk_gb * 1e9:
            return StorageError.code
        return ""

    def _insist(self, call: Callable[[], Given]) -> Given:
        """Return what `call` gives, however long the coordinator is away."""
        state = self._status.status.state
        for again in _waits():
            try:
                given = call()
                break
            except UnreachableError as error:
                self._lost(error)
                again()
            except RefusedError:  # it may have lost what it knew; where it has not, this raises it again
                self.activate()
                again()
        if self._status.status.state != state:
            self._status.change(state=self._idle_state() if state == "connecting" else state, error="")
        return given

    def _watch(self) -> None:
        require_going(self._folder)
        if self._unknown.is_set():
            self.activate()

    def _lost(self, error: UnreachableError) -> None:
        if str(error) != self._status.status.error:
            logger.warning("%s", error)
        self._status.change(state="connecting", error=str(error))

    def _beat(self) -> None:
        """Write the status every STATUS_S and tell the coordinator every HEARTBEAT_S, or sooner where it was away."""
        due = time.monotonic() + HEARTBEAT_S
        while not self._over.wait(STATUS_S):
            self._status.write()
            if self._fleet.node_id and time.monotonic() >= due and not self._unknown.is_set():
                with suppress(UnreachableError, RunOverError):
                    try:
                        self._fleet.heartbeat()
                        due = time.monotonic() + HEARTBEAT_S
                        self._status.change(last_contact=now())
                    except RefusedError:
                        self._unknown.set()

    def _is_resting(self) -> bool:
        return not is_within(self._site.worker.hours, datetime.now().time())

    def _idle_state(self) -> str:
        if is_halted(self._folder):
            return "halted"
        return "resting" if self._is_resting() else "connected"


def _waits() -> Iterator[Callable[[], None]]:
    """Yield, again and again, what waits before the next try: longer each time."""
    wait_s = FIRST_WAIT_S
    while True:
        pause = wait_s
        yield lambda: time.sleep(pause)  # noqa: B023
        wait_s = min(2 * wait_s, LAST_WAIT_S)


def _read_group(group: str) -> tuple[int, int]:
    """Return stage and round of a message, 0 where it names none."""
    stage, _, number = group.partition(".")
    known = all(each.isdecimal() and len(each) < 8 for each in (stage, number))
    return (int(stage), int(number)) if known else (0, 0)
