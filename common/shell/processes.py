"""Child processes: each in a session of its own, logged to a file, and ended with its descendants whatever happens.

Flower's programs start further programs (apps, Ray), some in process groups of their own; they all stay in the session
their first ancestor was started in, so a session's id is what they are ended by.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from prostafed.common.errors import RoundError
from prostafed.common.shell.files import filling, make_folder

LOOPBACK = "127.0.0.1"
# Asks Linux to end the program when its parent dies, then becomes the program: a killed parent leaves nothing behind.
_BOUND = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"(ERROR|CRITICAL)\b|\S*(Error|Exception)\b")


@dataclass(frozen=True)
class Child:
    """A running program; its process id is also the id of its session."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def children(grace_s: float = 10.0) -> Iterator[list[Child]]:
    """Yield a list to add started children to; on leaving, by whatever way, they are ended, the last one first.

    Each has `grace_s` to end by itself before it is killed.
    """
    started: list[Child] = []
    try:
        yield started
    finally:
        end_children(started[::-1], grace_s)


def start_child(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start `command`, a program by its whole path, in `folder` and return it; its output is appended to `log`, and of
    the files that are open here it has `pass_fds`.
    """
    make_folder(log.parent)
    bound = [sys.executable, "-IS", "-c", _BOUND, str(os.getpid())] if sys.platform == "linux" else []
    with filling(log, append=True) as output:
        process = subprocess.Popen(
            [*bound, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    return Child(name, process, log)


def start_program(name: str, module: str, arguments: Sequence[str | Path], log: Path, folder: Path) -> Child:
    """Start a module of ours as a program, with this Python and environment; its output is appended to `log`."""
    return start_child(name, [sys.executable, "-m", module, *arguments], log, os.environ, folder)


def end_children(started: Sequence[Child], grace_s: float = 10.0) -> None:
    """Ask each child in turn to end; what is left of its session after `grace_s`, or on a second Ctrl-C, is killed."""
    for child in started:
        try:
            if child.process.poll() is None:
                child.process.terminate()
            _wait_for_end(child, grace_s)
        except KeyboardInterrupt:
            grace_s = 0.0
        finally:
            for pid in _session_members(child.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.process.wait()


def count_resident_bytes(child: Child) -> int:
    """Return how much main memory the child's session holds; 0 where the system does not say."""
    pages = 0
    for pid in _session_members(child.process.pid):
        with suppress(OSError, IndexError, ValueError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def require_alive(started: Sequence[Child]) -> None:
    """Raise RoundError if a child has ended, with the reason its log gives."""
    for child in started:
        if child.process.poll() is not None:
            ended = f"{child.name} ended with code {child.process.returncode}"
            raise RoundError(f"{ended}: {read_reason(child.log)}\nWhole log: {child.log}.")


def read_reason(log: Path, lines: int = 5) -> str:
    """Return `lines` lines of `log` from its last error on, or its last lines where no error stands out."""
    text = _COLOURS.sub("", log.read_text(encoding="utf-8", errors="replace")) if log.exists() else ""
    written = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(written) if _ERROR.match(line)]
    start = errors[-1] if errors else max(len(written) - lines, 0)
    return "\n".join(written[start : start + lines]) or "nothing was logged."


def find_free_port(host: str = LOOPBACK) -> int:
    """Return a TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, raise KeyboardInterrupt as Ctrl-C does, so that `finally`
    runs; no effect outside the main thread. A signal that is ignored, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_end(child: Child, grace_s: float) -> None:
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and (child.process.poll() is None or _session_members(child.process.pid)):
        time.sleep(0.1)


def _session_members(session: int) -> list[int]:
    """Process ids in `session`, zombies left out."""
    members = []
    for pid, state in _list_processes():
        with suppress(OSError):
            if state != "Z" and os.getsid(pid) == session:
                members.append(pid)
    return members


def _list_processes() -> Iterator[tuple[int, str]]:
    """Yield (process id, letter of its state) of every process; slim containers have /proc but no `ps`."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True, check=True).stdout
        yield from ((int(pid), state[0]) for pid, state in (line.split() for line in listing.splitlines()))
        return
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            yield int(entry.parent.name), entry.read_text(errors="replace").rpartition(") ")[2][0]
