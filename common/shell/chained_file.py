"""A file of JSON lines that are added and never changed: each holds the SHA-256 of the one before it, so that one taken
out or altered shows.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.files import append_bytes, write_bytes

_BLOCK = 1 << 16  # bytes read at once from the end of a file
_REMEMBERED = 10_000  # lines: who reads a growing file again and again has to work out the new ones alone


@dataclass(frozen=True)
class Head:
    """The last line of a chain: whoever has noted it sees whether it was altered or cut off since."""

    number: int = 0
    digest: str = ""  # SHA-256 of the line


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
        line = _append(self._path, record, self.length + 1, self._last)
        self.length, self._last = self.length + 1, _digest(line)


def read_last(path: Path) -> dict[str, Any]:
    """Return the last whole line of a chained file, {} where there is none; only the end of the file is read. Raises
    CheckpointError where it is no line of a chained file.
    """
    return _parse_last(_read_end(path), path)


def add_line(path: Path, record: Mapping[str, Any], before: Path | None = None) -> None:
    """Add a line to a chained file that is too long to be read whole for it; it is on the disk when this returns. The
    first line of a file follows from the last one of `before`.

    The caller holds a lock. Half a last line, of a process that was killed, is removed. Raises CheckpointError where
    the last line is none of a chained file.
    """
    last = _read_end(path)
    if last is None and before is not None:
        last = _read_end(before)
    _append(path, record, int(_parse_last(last, path).get("number", 0)) + 1, "" if last is None else _digest(last))


def read_chained(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a chained file; an absent file has none. Raises CheckpointError where one does not follow
    from the one before it.
    """
    return read_part(path, Head())[0]


def read_part(path: Path, before: Head) -> tuple[list[dict[str, Any]], Head]:
    """Return the lines of a file of a chain whose head was `before`, and the head after them. Raises as `read_chained`
    does.
    """
    lines, _ = _read_lines(path)
    records = [_parse(line, path) for line in lines]
    _check_chain(path, lines, records, (before.number + 1, before.digest))
    return records, Head(before.number + len(lines), _digest(lines[-1])) if lines else before


def read_end(path: Path, most_bytes: int, part: bool = False) -> list[dict[str, Any]]:
    """Return the last whole lines of a chained file, as many as `most_bytes` hold; an absent file has none. `part`:
    its first line may follow from another file's last. Raises CheckpointError where one does not follow from the one
    before it.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        skipped = max(0, file.seek(0, os.SEEK_END) - most_bytes)
        file.seek(skipped)
        whole, end, _ = file.read(most_bytes).rpartition(b"\n")
    lines = _decode(whole.partition(b"\n")[2] if skipped else whole, path).split("\n") if end else []
    lines = [line for line in lines if line]
    records = [_parse(line, path) for line in lines]
    cut = records and (skipped or part)
    first = int(records[0].get("number", 0)) if cut else 1
    previous = str(records[0].get("previous")) if cut else ""
    _check_chain(path, lines, records, (first, previous))
    return records


def _check_chain(
    path: Path, lines: Sequence[str], records: Sequence[Mapping[str, Any]], begin: tuple[int, str]
) -> None:
    """Raise CheckpointError unless each line follows from the one before it; the first has number and digest of
    `begin`.
    """
    first, previous = begin
    for number, (line, record) in enumerate(zip(lines, records, strict=True), start=first):
        if (record.get("number"), record.get("previous")) != (number, previous):
            raise CheckpointError(
                f"{path}: line {number} does not follow from the line before it. Restore the file from a copy."
            )
        previous = _digest(line)


def _append(path: Path, record: Mapping[str, Any], number: int, previous: str) -> str:
    line = json.dumps({**record, "number": number, "previous": previous}, sort_keys=True)
    append_bytes(path, line.encode() + b"\n")
    return line


def _read_end(path: Path) -> str | None:
    """Return the last line of a file as text, None where it has none."""
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as file:
        start, end = file.seek(0, os.SEEK_END), b""
        while start and b"\n" not in end[:-1]:
            step = min(_BLOCK, start)
            start -= step
            file.seek(start)
            end = file.read(step) + end
    if not end.endswith(b"\n"):
        ChainedFile(path)  # removes the half
        return _read_end(path)
    return _decode(end[:-1].rpartition(b"\n")[2], path)


def _parse_last(line: str | None, path: Path) -> dict[str, Any]:
    if line is None:
        return {}
    record = _parse(line, path)
    if type(record.get("number")) is not int:
        raise CheckpointError(f"{path}: the last line has no number. Restore the file from a copy.")
    return record


def _read_lines(path: Path) -> tuple[list[str], bool]:
    """Return the whole lines of a file, and whether half a line follows them."""
    if not path.exists():
        return [], False
    whole, end, half = path.read_bytes().rpartition(b"\n")
    return _decode(whole, path).split("\n") if end else [], bool(half)


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} holds bytes that no program wrote there. Restore the file from a copy."
        ) from error


def _parse(line: str, path: Path) -> dict[str, Any]:
    try:
        return dict(_read_object(line))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a line that is no JSON object. Restore the file from a copy.") from error


@lru_cache(maxsize=_REMEMBERED)
def _read_object(line: str) -> dict[str, Any]:
    return dict(json.loads(line))


@lru_cache(maxsize=_REMEMBERED)
def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()
