"""The ledger: what happened in a run, in order, one line each of a chained file.

Who joined and left, which rounds were aggregated into which model, who was turned away again and again, when a run was
resumed. A checkpoint holds the number of lines written when it was made.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.common.shell.chained_file import ChainedFile
from prostafed.server.records.lines import LedgerLine

FILE = "ledger.jsonl"


@dataclass(frozen=True)
class Entry:
    """What a line of the ledger says. Events: started, resumed, joined, left, refused, round, not-aggregated, reported,
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
        self._file, self._study_hash = ChainedFile(folder / FILE), study_hash

    @property
    def length(self) -> int:
        """The number of its lines."""
        return self._file.length

    def holds(self, entry: Entry) -> bool:
        """Return whether the ledger, as it was when it was opened, has this line."""
        return any(_named(entry).items() <= line.items() for line in self._file.found)

    def add(self, entry: Entry) -> None:
        """Add a line; it is on the disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.add(LedgerLine(**_named(entry), time=now, study_hash=self._study_hash).written())


def _named(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if value not in ("", 0)}
