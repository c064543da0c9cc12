"""The ledger: what happened in a run, in order, one JSON line each; lines are added and never changed.

Who joined and left, which rounds were aggregated into which model, who was turned away again and again, when a run was
resumed. Each line holds the SHA-256 of the one before it, so that one taken out or altered shows; a checkpoint holds
the number of lines written when it was made.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.files import append_bytes, write_bytes

FILE = "ledger.jsonl"


@dataclass(frozen=True)
class Entry:
    """A line of the ledger. Events: started, resumed, joined, left, refused, round, not-aggregated, reported,
    missing, not-evaluated, finished, failed.
    """

    event: str
    stage: int = 0  # 0 = before the first
    round: int = 0
    site: str = ""
    text: str = ""
    model: str = ""  # SHA-256 of the global tensors after a round


class Ledger:
    """The ledger of one run folder, open for adding."""

    def __init__(self, folder: Path, study_hash: str) -> None:
        """Raise CheckpointError where the file is damaged."""
        self._path, self._study_hash = folder / FILE, study_hash
        lines = _read_whole_lines(self._path)
        self._found = [_parse(line, self._path) for line in lines]  # by the run that opened it
        self.length = len(lines)
        self._last = _digest(lines[-1]) if lines else ""

    def holds(self, entry: Entry) -> bool:
        """Return whether the ledger, as it was when it was opened, has this line."""
        return any(_named(entry).items() <= line.items() for line in self._found)

    def add(self, entry: Entry) -> None:
        """Add a line; it is on the disk when this returns."""
        record = _named(entry)
        record |= {
            "number": self.length + 1,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "study_hash": self._study_hash,
            "previous": self._last,
        }
        line = json.dumps(record, sort_keys=True)
        append_bytes(self._path, line.encode() + b"\n")
        self.length, self._last = self.length + 1, _digest(line)


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's ledger; an absent file has none. Raises CheckpointError where one does not follow
    from the one before it.
    """
    lines, previous = _read_whole_lines(folder / FILE, mend=False), ""
    records = [_parse(line, folder / FILE) for line in lines]
    for number, (line, record) in enumerate(zip(lines, records, strict=True), start=1):
        if (record.get("number"), record.get("previous")) != (number, previous):
            raise CheckpointError(
                f"{folder / FILE}: line {number} does not follow from the line before it. Restore the file from a copy."
            )
        previous = _digest(line)
    return records


def _read_whole_lines(path: Path, mend: bool = True) -> list[str]:
    """Return the lines of the file; half a last one, of a run that was killed, is dropped, and with `mend` removed."""
    if not path.exists():
        return []
    whole, _, half = path.read_bytes().rpartition(b"\n")
    if half and mend:
        write_bytes(path, whole + b"\n" if whole else b"")
    return whole.decode("utf-8").splitlines()


def _named(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if value not in ("", 0)}


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a line that is no JSON object. Restore the file from a copy.") from error


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
