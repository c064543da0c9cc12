"""The lines of a run's ledger, for tests: a run only adds to it."""

from pathlib import Path

from prostafed.common.shell.chained_file import read_chained
from prostafed.server.records.ledger import FILE
from prostafed.server.records.lines import LedgerLine


def read_ledger(folder: Path) -> list[LedgerLine]:
    return [LedgerLine.model_validate(line, extra="ignore") for line in read_chained(folder / FILE)]
