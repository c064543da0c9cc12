"""A file of JSON lines that are added and never changed: each holds the SHA-256 of the one before it, so that one taken
out or altered shows.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.files import append_bytes, write_bytes


class ChainedFile:
    """A chained file, open for adding."""

    def __init__(self, path: Path) -> None:
        """Raise CheckpointError where a line of the file is no JSON object; half a last line, of a process that was
        killed, is removed.
        """
        lines, half = _read_lines(path)
        if half:
            write_bytes(path, "".join(f"{line}\n" for line in lines).encode())
        self._path = path
        self.found = [_parse(line, path) for line in lines]  # by the process that opened it
        self.length = len(lines)
        self._last = _digest(lines[-1]) if lines else ""

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a line: `record`, its number and the digest of the line before; it is on the disk when this returns."""
        line = json.dumps({**record, "number": self.length + 1, "previous": self._last}, sort_keys=True)
        append_bytes(self._path, line.encode() + b"\n")
        self.length, self._last = self.length + 1, _digest(line)


def read_chained(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a chained file; an absent file has none. Raises CheckpointError where one does not follow
    from the one before it.
    """
    lines, _ = _read_lines(path)
    records, previous = [_parse(line, path) for line in lines], ""
    for number, (line, record) in enumerate(zip(lines, records, strict=True), start=1):
        if (record.get("number"), record.get("previous")) != (number, previous):
            raise CheckpointError(
                f"{path}: line {number} does not follow from the line before it. Restore the file from a copy."
            )
        previous = _digest(line)
    return records


def _read_lines(path: Path) -> tuple[list[str], bool]:
    """Return the whole lines of a file, and whether half a line follows them."""
    if not path.exists():
        return [], False
    whole, _, half = path.read_bytes().rpartition(b"\n")
    return whole.decode("utf-8").splitlines(), bool(half)


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a line that is no JSON object. Restore the file from a copy.") from error


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
