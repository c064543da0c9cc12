"""What a running link says of itself: status.json beside the site file, whole at every moment."""

import json
import os
import threading
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prostafed.common.errors import StorageError
from prostafed.common.shell.files import write_json

FILE = "status.json"
LINK_LOCK, WORKER_LOCK = ".link.lock", ".worker.lock"  # beside it: each is held as long as its process lives
WRITTEN_EVERY_S = 5.0
UNUSABLE = "which cannot be used"  # what follows a device's name where the worker cannot compute on it
State = Literal["connecting", "connected", "working", "resting", "halted", "refused", "stopped"]
WorkerState = Literal["absent", "starting", "ready", "working"]


@dataclass(frozen=True)
class WorkerStatus:
    """What the worker is doing; `device` is the GPU it sees itself, or cpu."""

    state: WorkerState = "absent"
    pid: int = 0
    device: str = ""
    started: str = ""


@dataclass(frozen=True)
class Status:
    """What a link is doing. Times are UTC in ISO 8601, "" where there was none; `error` is one sentence."""

    state: State = "connecting"
    since: str = ""  # of the state
    pid: int = 0
    coordinator: str = ""
    node_id: int = 0
    release: str = ""
    bundle: str = ""
    other_release: bool = False  # whether the last run was of another release than this one, and refused
    last_contact: str = ""
    error: str = ""
    run: str = ""
    stage: int = 0
    round: int = 0
    worker: WorkerStatus = field(default_factory=WorkerStatus)
    answered: int = 0
    refused: int = 0
    written: str = ""


def now() -> str:
    """Return this moment."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_status(folder: Path) -> Status | None:
    """Return what the site's last link said, None where there was none or it cannot be read."""
    try:
        values: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Status(**{**values, "worker": WorkerStatus(**values["worker"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class StatusFile:
    """The status of a running link; its threads tell it what changed."""

    def __init__(self, folder: Path, start: Status) -> None:
        self._path, self._lock = folder / FILE, threading.Lock()
        self.status = replace(start, pid=os.getpid(), since=now())
        self.write()

    def change(self, **changes: Any) -> None:
        """Change fields, and write where one did."""
        with self._lock:
            changed = replace(self.status, **changes)
            if changed == self.status:
                return
            if changed.state != self.status.state:
                changed = replace(changed, since=now())
            self.status = changed
        self.write()

    def change_worker(self, **changes: Any) -> None:
        """Change fields of the worker."""
        self.change(worker=replace(self.status.worker, **changes))

    def write(self) -> None:
        """Write the status; a full disk does not end the link."""
        with self._lock:
            try:
                write_json(self._path, {**asdict(self.status), "written": now()})
            except StorageError:
                return
