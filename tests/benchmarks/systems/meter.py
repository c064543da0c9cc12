"""What processes cost, read from /proc while they run: processor time and the most memory, by what they are."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

LOOK_EVERY_S = 0.5
_TICKS, _PARENT, _TIMES = os.sysconf("SC_CLK_TCK"), 1, slice(11, 15)  # of /proc/PID/stat, after the name


def list_tree(root: int) -> list[int]:
    """Return `root` and all that descend from it and live."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if fields := _read_stat(int(entry.name)):
            below.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return found


def read_cpu_s(root: int) -> float:
    """Return the processor seconds of a process and of all it started, those that have ended included."""
    return sum(
        sum(int(ticks) for ticks in fields[_TIMES]) / _TICKS for pid in list_tree(root) if (fields := _read_stat(pid))
    )


@contextmanager
def watching_memory(roots: Sequence[int], roles: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """Yield a table that holds, once left, the peak MB of a process of each role. `roles`: words of a command line ->
    the role, the first that fits.
    """
    peaks: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while True:
            for pid in (each for root in roots for each in list_tree(root)):
                if (role := _find_role(pid, roles)) and (peak := _read_peak_mb(pid)):
                    peaks[role] = max(peaks.get(role, 0), peak)
            if over.wait(LOOK_EVERY_S):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def measure_idle(roots: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Return the share of a core that each tree takes for so long, in percent."""
    before, began = {name: read_cpu_s(pid) for name, pid in roots.items()}, time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - began
    return {name: round(100 * (read_cpu_s(pid) - before[name]) / passed, 2) for name, pid in roots.items()}


def _read_stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
    except OSError:  # it has ended
        return []


def _find_role(pid: int, roles: Mapping[str, str]) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return next((role for words, role in roles.items() if words in line), "")


def _read_peak_mb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)
