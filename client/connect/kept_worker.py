"""The link's side of the worker: it starts it, hands it messages, watches its memory and starts it again."""

import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from prostafed.client.connect.fleet import Incoming, Outgoing, Run
from prostafed.client.connect.frames import Ask, Part, Ready
from prostafed.client.connect.status import StatusFile, now
from prostafed.common.errors import ProstafedError
from prostafed.common.shell.processes import Child, count_resident_bytes, end_children, start_child

logger = logging.getLogger("prostafed.site")
LEAVE_S = 60.0  # to write a checkpoint and leave
AGAIN_S = 10.0  # from one start to the next of a worker that dies with nothing to do
LOOK_S = 1.0


class DiedError(ProstafedError):
    """The worker died over a message."""

    code = "CRASHED"


class MemoryLimitError(ProstafedError):
    """The worker took more main memory than the site file grants."""

    code = "MEMORY"


class KeptWorker:
    """A site's worker. It is started from the main thread alone: it ends when the thread that started it does."""

    def __init__(self, site_file: Path, most_bytes: int, status: StatusFile) -> None:
        self._site_file, self._most_bytes, self._status = site_file, most_bytes, status
        self._child: Child | None = None
        self._begun = -AGAIN_S
        self._link: Connection | None = None
        self._listener: threading.Thread | None = None
        self._said: queue.Queue[Outgoing | None] = queue.Queue()

    def keep(self) -> None:
        """Start the worker where there is none, not more often than every AGAIN_S."""
        if self._is_alive() or time.monotonic() - self._begun < AGAIN_S:
            return
        self._start()

    def ask(self, incoming: Incoming, contents: dict[str, bytes], run: Run, watch: Callable[[], None]) -> Outgoing:
        """Return the worker's answer to a message; `watch` is called every second meanwhile, and may raise.

        Raises DiedError where the worker dies over it, MemoryLimitError where it is ended for its memory.
        """
        if not self._is_alive():
            self._start()
        child, link = self._child, self._link
        assert child is not None
        assert link is not None
        self._status.change_worker(state="working")
        try:
            with suppress(OSError):  # it died: the queue says so
                for name, content in contents.items():
                    link.send(Part(name, content))
                link.send(Ask(incoming, run.config))
            while True:
                try:
                    answer = self._said.get(timeout=LOOK_S)
                except queue.Empty:
                    watch()
                    self._check_memory(child)
                    continue
                if answer is None:
                    self.end(0.0)
                    raise DiedError(f"The worker died over a request. Its log is {child.log}.")
                return answer
        finally:
            if self._child is not None:
                self._status.change_worker(state="ready")

    def end(self, grace_s: float = LEAVE_S) -> None:
        """Let the worker keep the round in the making, and end it with all that it started."""
        child, self._child = self._child, None
        if child is not None:
            end_children([child], grace_s)
        if self._listener is not None:
            self._listener.join(timeout=5)  # it reads until the worker's end is closed
        if self._link is not None:
            self._link.close()
        self._link = self._listener = None
        self._status.change_worker(state="absent", pid=0)

    def _is_alive(self) -> bool:
        if self._child is not None and self._child.process.poll() is not None:
            self.end(0.0)
        return self._child is not None

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._begun, self._said = time.monotonic(), queue.Queue()
        program = ["-P", "-m", "prostafed.client.connect.worker", str(self._site_file), str(theirs.fileno())]
        folder = self._site_file.parent
        with theirs:
            self._child = start_child(
                "The worker",
                [sys.executable, *program],
                folder / "logs" / "worker.log",
                {**os.environ, "PYTHONUTF8": "1"},
                folder,
                pass_fds=[theirs.fileno()],
            )
        self._link = Connection(ours.detach())
        self._status.change_worker(state="starting", pid=self._child.process.pid, started=now(), device="")
        self._listener = threading.Thread(target=self._listen, args=(self._link, self._said), daemon=True)
        self._listener.start()

    def _listen(self, link: Connection, said: "queue.Queue[Outgoing | None]") -> None:
        contents: dict[str, bytes] = {}
        try:
            while True:
                match link.recv():
                    case Ready(device):
                        working = self._status.status.worker.state == "working"
                        self._status.change_worker(state="working" if working else "ready", device=device)
                    case Part(name, content):
                        contents[name] = content
                    case Outgoing() as answer:
                        said.put(Outgoing(answer.header, answer.tree, contents, answer.refusal))
                        contents = {}
        except Exception as error:  # whatever it says that is none of these, it is lost
            if not isinstance(error, EOFError | OSError):
                logger.exception("The worker cannot be understood.")
            said.put(None)

    def _check_memory(self, child: Child) -> None:
        if self._most_bytes and (taken := count_resident_bytes(child)) > self._most_bytes:
            self.end(0.0)
            raise MemoryLimitError(
                f"The worker took {taken / 1e9:.1f} GB of main memory, more than memory_gb of the site file; it was "
                "ended."
            )
