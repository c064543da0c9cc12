import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prostafed.common.errors import RoundError
from prostafed.common.shell.processes import (
    Child,
    children,
    end_children,
    find_free_port,
    interrupted_by_sigterm,
    read_reason,
    require_alive,
    start_child,
)

# A program that has a child in a process group of its own, as Ray does; neither ends when asked to.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], process_group=0)
print(child.pid, flush=True)
time.sleep(60)
"""


def start(code: str, folder: Path) -> Child:
    return start_child("The program", [sys.executable, "-c", code], folder / "program.log", os.environ, folder)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.startswith("Z")


def test_ends_descendants_that_refuse_to_end(tmp_path: Path) -> None:
    program = start(STUBBORN, tmp_path)
    wait_for(lambda: program.log.read_text().endswith("\n"))
    grandchild = int(program.log.read_text())
    assert is_running(grandchild)
    end_children([program], grace_s=0.2)
    assert program.process.returncode == -signal.SIGKILL
    wait_for(lambda: not is_running(grandchild))


def fail_beside(program: Child) -> None:
    with children() as started:
        started.append(program)
        raise ZeroDivisionError


def test_an_error_ends_the_children(tmp_path: Path) -> None:
    program = start("import time; time.sleep(60)", tmp_path)
    with pytest.raises(ZeroDivisionError):
        fail_beside(program)
    assert program.process.returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a program of its parent's death")
def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    code = f"""
import os, time; from pathlib import Path; from prostafed.common.shell.processes import start_child
command = [{sys.executable!r}, "-c", "import time; time.sleep(60)"]
print(start_child("x", command, Path("log"), os.environ, Path()).process.pid)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-uc", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not is_running(child))


def test_a_willing_program_is_not_killed(tmp_path: Path) -> None:
    with children() as started:
        started.append(start("import time; time.sleep(60)", tmp_path))
        require_alive(started)
    assert started[0].process.returncode == -signal.SIGTERM


def test_a_program_that_ended_by_itself_is_named_with_its_reason(tmp_path: Path) -> None:
    program = start("print('all is well'); raise ValueError('the disk is full')", tmp_path)
    program.process.wait(timeout=15)
    with pytest.raises(
        RoundError, match=r"The program ended with code 1: ValueError: the disk is full\nWhole log: .*log"
    ):
        require_alive([program])


def test_reason_is_the_last_error_without_colours(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert read_reason(log) == "nothing was logged."
    log.write_text("one\ntwo\n")
    assert read_reason(log, lines=1) == "two"
    log.write_text("\x1b[91mERROR \x1b[0m:  first\n\x1b[91mERROR \x1b[0m:  second\nmore\n")
    assert read_reason(log) == "ERROR :  second\nmore"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_interrupt(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_under_nohup_a_closed_terminal_is_no_matter() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupted_by_sigterm():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_free_port_is_free() -> None:
    assert 1024 <= find_free_port() <= 65535
