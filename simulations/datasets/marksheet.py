"""The tables beside PI-CAI images, checked cell by cell: marksheet.csv (a study a row), reads.csv (a reader a row)."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from prostafed.client.manifest.imports import MarksheetRow
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.shell.tables import Row, raise_mistakes, read_table

_ID = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="1 to 32 letters, digits, _ or -")]


class PicaiRow(MarksheetRow):
    """A study of the marksheet, as a hospital's manifest takes it, and the centre it comes from."""

    center: _ID


class ReadsRow(Row):
    """What one reader said of one lesion, or of the whole study."""

    case_id: str = Field(description="a study of the marksheet")
    lesion_id: str = Field(description="a lesion, or 'case'")
    reader_id: _ID
    pirads: int = Field(ge=1, le=5, description="PI-RADS")


def read_marksheet(path: Path) -> tuple[CaseRecord, ...]:
    """Return a record per study, sorted by case id `<patient_id>_<study_id>`, with no masks or sequences yet.

    Blank cells are unknown. The one PI-RADS read of a study is the highest score of its lesions. Reading habit differs
    by centre (PCNN codes negatives PI-RADS 1, RUMC and ZGT 2): do not tell 1 from 2 apart. Raises DataError, a line per
    mistake (ten at most): file, line, column, what is allowed, what was found.
    """
    table = read_table(path, PicaiRow, others=True)
    mistakes: list[object] = [*table.mistakes]
    records: dict[str, CaseRecord] = {}
    for line, row in table.rows:
        where, case_id = f"{path.name}: line {line}", f"{row.patient_id}_{row.study_id}"
        cspca = {"YES": True, "NO": False, None: None}[row.case_csPCa]
        scores = [int(score) for score in (row.lesion_PIRADS or "").split(",") if score.strip().isdigit()]
        if case_id in records:
            mistakes.append(f"{where}: expected every study once, found {case_id} again.")
        if row.case_ISUP is not None and cspca is not None and cspca != (row.case_ISUP >= 2):
            mistakes.append(
                f"{where}, column case_csPCa: expected YES from ISUP 2 on and NO below, found ISUP {row.case_ISUP}."
            )
        records[case_id] = CaseRecord(
            case_id=case_id,
            patient_id=row.patient_id,
            center=row.center,
            pirads_reads=(max(scores),) if scores else (),
            cspca=cspca,
            isup=row.case_ISUP,
            age=row.patient_age,
            psa=row.psa,
            prostate_volume=row.prostate_volume,
        )
    raise_mistakes(mistakes)
    return tuple(records[case_id] for case_id in sorted(records))


def read_reads(path: Path, case_ids: Collection[str]) -> Mapping[str, tuple[int, ...]]:
    """Return the PI-RADS score of each reader, sorted by reader id, per case: the highest over its lesions.

    Raises DataError as `read_marksheet` does, also for a case that is not in `case_ids`.
    """
    table, known = read_table(path, ReadsRow, others=True), frozenset(case_ids)
    mistakes: list[object] = [*table.mistakes]
    highest: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line, row in table.rows:
        if row.case_id not in known:
            place = f"{path.name}: line {line}, column case_id"
            mistakes.append(f"{place}: expected a study of the marksheet, found '{row.case_id}'.")
        readers = highest[row.case_id]
        readers[row.reader_id] = max(row.pirads, readers.get(row.reader_id, 0))
    raise_mistakes(mistakes)
    return {case: tuple(readers[name] for name in sorted(readers)) for case, readers in highest.items()}
