"""The tables beside PI-CAI images, checked cell by cell: marksheet.csv (a study a row), reads.csv (a reader a row)."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CaseRecord

Cell = tuple[Callable[[str], Any], str]  # a parser that raises ValueError, and what it allows

_MOST_MISTAKES = 10  # shown at once


def read_marksheet(path: Path) -> tuple[CaseRecord, ...]:
    """Return a record per study, sorted by case id `<patient_id>_<study_id>`, with no masks or sequences yet.

    Blank cells are unknown. The one PI-RADS read of a study is the highest score of its lesions. Reading habit differs
    by centre (PCNN codes negatives PI-RADS 1, RUMC and ZGT 2): do not tell 1 from 2 apart. Raises DataError, a line per
    mistake (ten at most): file, line, column, what is allowed, what was found.
    """
    required: dict[str, Cell] = {
        "patient_id": (_id, "1 to 32 letters, digits, _ or -"),
        "study_id": (_id, "1 to 32 letters, digits, _ or -"),
        "case_ISUP": (_optional(_score(0, 5)), "0 to 5, or blank"),
        "case_csPCa": (_optional({"YES": True, "NO": False}.__getitem__), "YES, NO, or blank"),
        "center": (_id, "a short name of letters, digits, _ or -"),
    }
    optional: dict[str, Cell] = {
        "patient_age": (_optional(_number(18, 110)), "18 to 110 years, or blank"),
        "psa": (_optional(_number(0, 5000)), "0 to 5000 ng/ml with a decimal point, or blank"),
        "prostate_volume": (_optional(_number(1, 500)), "1 to 500 ml with a decimal point, or blank"),
        "lesion_PIRADS": (_lesion_scores, "scores 1 to 5 or N/A, separated by commas, or blank"),
    }
    mistakes: list[str] = []
    records: dict[str, CaseRecord] = {}
    for where, row in _rows(path, required, optional, mistakes):
        case_id = f"{row['patient_id']}_{row['study_id']}"
        isup, cspca, scores = row["case_ISUP"], row["case_csPCa"], row.get("lesion_PIRADS") or ()
        if case_id in records:
            mistakes.append(f"{where}: expected every study once, found {case_id} again.")
        if isup is not None and cspca is not None and cspca != (isup >= 2):
            mistakes.append(f"{where}, column case_csPCa: expected YES from ISUP 2 on and NO below, found ISUP {isup}.")
        records[case_id] = CaseRecord(
            case_id=case_id,
            patient_id=row["patient_id"],
            center=row["center"],
            pirads_reads=(max(scores),) if scores else (),
            cspca=cspca,
            isup=isup,
            age=row.get("patient_age"),
            psa=row.get("psa"),
            prostate_volume=row.get("prostate_volume"),
            source="picai",
        )
    _raise(mistakes)
    return tuple(records[case_id] for case_id in sorted(records))


def read_reads(path: Path, case_ids: Collection[str]) -> Mapping[str, tuple[int, ...]]:
    """Return the PI-RADS score of each reader, sorted by reader id, per case: the highest over its lesions.

    Raises DataError as `read_marksheet` does, also for a case that is not in `case_ids`.
    """
    columns: dict[str, Cell] = {
        "case_id": (dict(zip(case_ids, case_ids, strict=True)).__getitem__, "a study of the marksheet"),
        "lesion_id": (str, "anything"),
        "reader_id": (_id, "a short name of letters, digits, _ or -"),
        "pirads": (_score(1, 5), "1 to 5"),
    }
    mistakes: list[str] = []
    highest: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for _, row in _rows(path, columns, {}, mistakes):
        readers = highest[row["case_id"]]
        readers[row["reader_id"]] = max(row["pirads"], readers.get(row["reader_id"], 0))
    _raise(mistakes)
    return {case: tuple(readers[name] for name in sorted(readers)) for case, readers in highest.items()}


def _rows(
    path: Path, required: Mapping[str, Cell], optional: Mapping[str, Cell], mistakes: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row without a mistake, parsed, and where it stands; the others add to `mistakes`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text))
    found = reader.fieldnames or ()
    if missing := [column for column in required if column not in found]:
        raise DataError(
            f"{path.name}: expected the columns {', '.join(required)}, found no {', '.join(missing)} among "
            f"{', '.join(found) or 'no columns'}. Separate columns by commas and name them in the first line."
        )
    columns = {**required, **{column: cell for column, cell in optional.items() if column in found}}
    for cells in reader:
        where = f"{path.name}: line {reader.line_num}"
        if None in cells or None in cells.values():
            mistakes.append(f"{where}: expected {len(found)} values, found another number. Look for a decimal comma.")
            continue
        row = {}
        for column, (parse, allowed) in columns.items():
            try:
                row[column] = parse(cells[column].strip())
            except (ValueError, KeyError):
                mistakes.append(f"{where}, column {column}: expected {allowed}, found '{cells[column]}'.")
        if len(row) == len(columns):
            yield where, row


def _raise(mistakes: list[str]) -> None:
    if mistakes:
        more = len(mistakes) - _MOST_MISTAKES
        raise DataError("\n".join(mistakes[:_MOST_MISTAKES] + ([f"... and {more} more."] if more > 0 else [])))


def _id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", text):
        raise ValueError
    return text


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"\d+(\.\d+)?", text) or not low <= float(text) <= high:
            raise ValueError
        return float(text)

    return parse


def _score(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text not in map(str, range(low, high + 1)):
            raise ValueError
        return int(text)

    return parse


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


def _lesion_scores(text: str) -> tuple[int, ...]:
    scores = [score.strip() for score in text.split(",")] if text else []
    return tuple(_score(1, 5)(score) for score in scores if score != "N/A")
