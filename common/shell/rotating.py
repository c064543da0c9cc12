"""A chained file that is begun anew where it grows long: name.jsonl is written, name-000001.jsonl and so on are full.

The chain goes on from one to the next: the first line of each holds the number that follows, and the digest of the last
line of the one before. So a file that is taken out shows, too. Who keeps the head elsewhere sees whether lines were cut
off at the end.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prostafed.common.shell.chained_file import Head, add_line, read_end, read_part
from prostafed.common.shell.files import rename

MOST_BYTES = 5_000_000


def list_parts(path: Path) -> list[Path]:
    """Return the files of a chain that have lines, the oldest first; `path`, where it has, is the last."""
    full = sorted(path.parent.glob(f"{path.stem}-[0-9][0-9][0-9][0-9][0-9][0-9]{path.suffix}"))
    return [part for part in (*full, path) if part.exists() and part.stat().st_size]


def add_rotating(path: Path, record: Mapping[str, Any]) -> None:
    """Add a line, to a new file where `path` is full; it is on the disk when this returns. The caller holds a lock.

    Raises CheckpointError where the last line is none of a chained file, StorageError where the disk is full.
    """
    parts = list_parts(path)
    if parts[-1:] == [path] and path.stat().st_size > MOST_BYTES:
        parts[-1] = path.with_stem(f"{path.stem}-{len(parts):06}")
        rename(path, parts[-1])
    before = parts[-1] if parts and parts[-1] != path else None
    add_line(path, record, before)


def read_rotating(path: Path) -> tuple[list[dict[str, Any]], Head]:
    """Return the lines of all files, and the head of the chain. Raises CheckpointError where a line does not follow
    from the one before it.
    """
    lines, head = list[dict[str, Any]](), Head()
    for part in list_parts(path):
        found, head = read_part(part, head)
        lines += found
    return lines, head


def read_latest(path: Path, most_bytes: int) -> list[dict[str, Any]]:
    """Return the last lines, as many as `most_bytes` of the file that was written last hold. Raises CheckpointError
    where they are none of a chained file.
    """
    parts = list_parts(path)
    return read_end(parts[-1], most_bytes, part=True) if parts else []


def find_difference(lines: list[dict[str, Any]], head: Head, expected: Head) -> str:
    """Return what is wrong where a chain has not the line that was its head once, "" where it has."""
    if expected.number > head.number:
        return f"Expected a line {expected.number}, found {head.number} lines: the last ones were cut off."
    later = lines[expected.number]["previous"] if expected.number < head.number else head.digest
    differs = expected.number < 1 or later != expected.digest
    return f"Line {expected.number} is not the one that was noted: the file was written anew." if differs else ""
