"""The runs of a link: each a process of its own, started again where it dies, and ended with the link.

A run goes on from its last round whatever has ended before: the run's process, or the link with all its runs.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prostafed.common.errors import ConfigurationError, StorageError
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.shell.processes import Child, end_children, read_reason, start_program
from prostafed.server.link.following import read_rounds
from prostafed.server.link.superlink import SuperLink, Ticket
from prostafed.server.records.lines import StateRecord

_MOST_DEATHS = 5  # of a run's process without a round between them
_KEEP_EVERY_S, _LEFT_ALONE_S = 15.0, 60.0
logger = logging.getLogger("prostafed.server")
UNDER_WAY = "running.json"  # in the home: the runs that a link, started again, goes on with


@dataclass(frozen=True)
class Order:
    """What a run is: all that its process needs, but the ticket."""

    name: str
    study: str  # in canonical form
    out: str
    sites_expected: int
    initial: str = ""  # file the encoder starts from

    def values(self) -> dict[str, str]:
        """Return the run config of the ServerApp. The sites are told `study` and `run` alone."""
        return {"out": self.out, "sites_expected": str(self.sites_expected), "initial": self.initial, "sites": ""}


@dataclass
class _Running:
    order: Order
    ticket: Ticket
    child: Child
    rounds: int  # when its process was started
    deaths: int = 0


@dataclass
class Runs:
    """The runs that go on. `socket` is where their processes reach the link, `scratch` a folder of its owner."""

    home: Path
    link: SuperLink
    socket: Path
    scratch: Path
    started: list[Child]  # ended with the link
    unsaid: dict[str, str] = field(default_factory=dict)  # why a run ended whose folder, on a full disk, cannot say it
    _running: dict[str, _Running] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _kept: float = 0.0
    _tended: float = field(default_factory=time.monotonic)

    def begin(self, order: Order) -> None:
        """Start a run, or go on with it where it stands; raises ConfigurationError where it is going on already."""
        with self._lock:
            before = self._running.get(order.name)
            if before and (Path(before.order.out) / "state.json").exists():  # it has ended, and its process is leaving
                end_children([before.child], grace_s=5.0)
                self._close(self._running.pop(order.name), "")
            if order.name in self._running:
                raise ConfigurationError(
                    f"A run named {order.name} is going on. Follow it, stop it, or choose another name."
                )
            make_folder(Path(order.out))
            (Path(order.out) / "state.json").unlink(missing_ok=True)  # it tells of the end of an earlier try
            self._running[order.name] = self._start(order, 0)
            self.unsaid.pop(order.name, None)
            self._remember()

    def stop(self, name: str) -> None:
        """End a run; raises ConfigurationError where none of that name goes on."""
        with self._lock:
            running = self._running.pop(name, None)
            if running is None:
                raise ConfigurationError(f"No run named {name} is going on.")
            end_children([running.child], grace_s=2.0)
            self._close(running, "It was stopped. prostafed-server resume continues it.")

    def end(self) -> None:
        """End the processes of all runs; a link started again goes on with them."""
        with self._lock:
            end_children([running.child for running in self._running.values()], grace_s=2.0)
            self._running.clear()

    def names(self) -> list[str]:
        """Return the names of the runs that go on."""
        with self._lock:
            return sorted(self._running)

    def go_on(self) -> None:
        """Start again what was under way when a link ended on this home."""
        path = self.home / UNDER_WAY
        for values in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
            self.begin(Order(**values))

    def tend(self) -> None:
        """See which processes have ended; call this often."""
        self._tended = time.monotonic()
        with self._lock:
            for name, running in list(self._running.items()):
                if running.child.process.poll() is None:
                    continue
                del self._running[name]
                try:
                    self._after_end(name, running)
                except StorageError as error:  # of a full disk the link says so, and stays: the sites are connected
                    logger.warning("The run %s has ended. %s", name, error)
                    self.unsaid[name] = f"{error} Then resume it: prostafed-server resume {name}"
            if time.monotonic() - self._kept > _KEEP_EVERY_S:
                self._kept = time.monotonic()
                for running in self._running.values():
                    self.link.keep_run(running.ticket)

    def are_tended(self) -> bool:
        """Return whether somebody looks after the runs, as a link does that is not stuck."""
        return time.monotonic() - self._tended < _LEFT_ALONE_S

    def _after_end(self, name: str, running: _Running) -> None:
        out = Path(running.order.out)
        if (out / "state.json").exists():
            self._close(running, "")
            return
        self.link.end_run(running.ticket, finished=False)
        deaths = running.deaths + 1 if len(read_rounds(out)) == running.rounds else 1
        if deaths >= _MOST_DEATHS:
            reason = read_reason(running.child.log)
            self._close(running, f"Its process ended {deaths} times without a round between: {reason}")
            return
        self._running[name] = self._start(running.order, deaths)

    def _start(self, order: Order, deaths: int) -> _Running:
        ticket = self.link.begin_run({"study": order.study, "run": order.name})
        given = self.scratch / f"run-{order.name}.json"
        enrolled = str(self.home.resolve() / "sites")  # their public keys, as long as they are enrolled
        write_json(
            given,
            {
                "socket": str(self.socket),
                "token": ticket.token,
                "values": {**order.values(), "run": order.name, "enrolled": enrolled},
            },
        )
        out = Path(order.out)
        log = make_folder(out / "logs") / "run.log"
        child = start_program("The run", "prostafed.server.link.run_process", [given], log, self.scratch)
        self.started.append(child)
        return _Running(order, ticket, child, len(read_rounds(out)), deaths)

    def _close(self, running: _Running, error: str) -> None:
        if running.child in self.started:
            self.started.remove(running.child)
        self.link.end_run(running.ticket, finished=not error)
        if error:
            write_json(Path(running.order.out) / "state.json", StateRecord(state="failed", error=error).written())
        self._remember()

    def _remember(self) -> None:
        orders: list[Mapping[str, object]] = [vars(each.order) for each in self._running.values()]
        write_json(self.home / UNDER_WAY, orders)
