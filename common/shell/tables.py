"""CSV tables that people write -> validated rows; every mistake says in which file, line and column, what is allowed.

A row is a pydantic model whose fields are the columns: a field's `description`, its bounds and its literals are what
the message of a mistake is made of. Blank cells are None; the reader never stops at the first mistake.
"""

import csv
import difflib
import io
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from prostafed.common.errors import DataError, nearest
from prostafed.common.shell.files import write_text

MOST_SHOWN = 10  # mistakes in one error message

_WHOLE = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_UNKNOWN = {"na", "n/a", "n.a.", "nan", "none", "null", "unknown", "unbekannt", "-", "?", "."}
_SPREADSHEET = re.compile(
    r"\d{1,2}[-./ ][A-Za-zä]{3,4}\.?([-./ ]\d{2,4})?|[A-Za-zä]{3,4}\.?[-./ ]\d{1,4}|\d(\.\d+)?[eE]\+\d+"
)


class Row(BaseModel):
    """A line of a table: frozen, unknown columns forbidden. The first column is the key a mistake is filed under."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a cell, a line (no column) or a file (line 1)."""

    file: str
    line: int
    column: str
    key: str  # the line's first column as written
    expected: str
    found: str  # as written: for the terminal of whoever wrote it, nowhere else
    hint: str = ""

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.file}: line {self.line}" + (f", column {self.column}" if self.column else "")

    def __str__(self) -> str:
        """Return the whole sentence, with what was found."""
        return f"{self.place}: expected {self.expected}, found {self.found}.{self.hint and ' ' + self.hint}"


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """A table as read. Wrong cells of optional columns are blank in `rows`, other wrong lines are left out."""

    rows: tuple[tuple[int, RowT], ...]  # (line, row)
    mistakes: tuple[Mistake, ...]
    readable: bool = True  # False where the file as a whole is none, and `rows` is empty for that reason


def read_table(path: Path, model: type[RowT], *, others: bool = False) -> Table[RowT]:
    """Return the rows of a UTF-8 CSV file and every mistake in it; `others` lets columns be that `model` has not.

    Columns may stand in any order; those with a default may be missing. Raises DataError where there is no such file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {path.name}: {(error.strerror or 'error').lower()}. Check the path.") from error
    except UnicodeDecodeError:
        hint = "Save it as 'CSV UTF-8 (comma delimited)'."
        return Table((), (Mistake(path.name, 1, "", "", "UTF-8 text", "another encoding", hint),), readable=False)
    try:
        lines = list(_split(text))
    except csv.Error:
        hint = "Look for a quotation mark that is not closed."
        return Table((), (Mistake(path.name, 1, "", "", "lines of CSV", "something else", hint),), readable=False)
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    while header and not header[-1]:  # spreadsheets leave empty columns behind
        header.pop()
    if wrong := list(_check_header(path.name, header, model, others)):
        return Table((), tuple(wrong), readable=False)
    rows: list[tuple[int, RowT]] = []
    mistakes: list[Mistake] = []
    for line, cells in lines[1:]:
        row, found = _read_line(path.name, line, header, cells, model)
        mistakes += found
        if row is not None:
            rows.append((line, row))
    return Table(tuple(rows), tuple(mistakes))


def raise_mistakes(mistakes: Sequence[object]) -> None:
    """Raise a DataError with a line per mistake, MOST_SHOWN at most; nothing where there is none."""
    if mistakes:
        more = len(mistakes) - MOST_SHOWN
        shown = [str(mistake) for mistake in mistakes[:MOST_SHOWN]]
        raise DataError("\n".join(shown + ([f"... and {more} more."] if more > 0 else [])))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with `columns`, atomically; None and missing values are blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if row.get(name) is None else row[name] for name in columns] for row in rows)
    write_text(path, text.getvalue())


def describe_column(field: FieldInfo) -> str:
    """Return what a cell of a column may hold: its description, its bounds or words, and whether it may be blank."""
    kind, optional = _unwrap(field.annotation)
    bounds = {name: getattr(each, name) for each in field.metadata for name in ("ge", "le") if hasattr(each, name)}
    parts = [field.description or "a value"]
    if get_origin(kind) is Literal:
        parts.append(f"one of {', '.join(map(str, get_args(kind)))}")
    elif len(bounds) == 2:
        parts.append(f"{bounds['ge']:g} to {bounds['le']:g}")
    return ", ".join(parts + (["or blank"] if optional else []))


def _split(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, cells) of each record that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _check_header(file: str, header: list[str], model: type[Row], others: bool) -> Iterator[Mistake]:
    valid = model.model_fields
    required = [name for name, field in valid.items() if field.is_required()]
    separators = [(";", "semicolons"), ("\t", "tabs")]
    if len(header) <= 1 and (other := next((name for mark, name in separators if mark in "".join(header)), "")):
        hint = "Save the table again with a comma as field delimiter."
        yield Mistake(file, 1, "", "", "columns separated by commas", other, hint)
        return
    if missing := [name for name in required if name not in header]:
        found = f"no {', '.join(missing)} among {', '.join(header) or 'no columns'}"
        hint = "Name the columns in the first line."
        yield Mistake(file, 1, "", "", f"the columns {', '.join(required)}", found, hint)
    for name in dict.fromkeys(name for name in header if header.count(name) > 1):
        yield Mistake(file, 1, name, "", "every column once", f"'{name}' {header.count(name)} times", "Remove one.")
    for name in header:
        if name not in valid and not others and name:
            hint = f"Rename or remove it{nearest(name, valid)}"
            yield Mistake(file, 1, name, "", "a known column", f"'{name}'", hint)


def _read_line(
    file: str, line: int, header: list[str], cells: list[str], model: type[RowT]
) -> tuple[RowT | None, list[Mistake]]:
    named = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    key = named.get(next(iter(model.model_fields)), "")
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        hint = "Look for a decimal comma, or a comma in a text without quotation marks."
        return None, [Mistake(file, line, "", key, f"{len(header)} values", str(len(cells)), hint)]
    fields = {name: field for name, field in model.model_fields.items() if name in named}
    values = {name: named[name] for name in fields if named[name]}
    wrong = {name for name in values if not _is_well_formed(fields[name], values[name])}
    wrong |= {name for name, field in fields.items() if field.is_required() and name not in values}
    wrong |= _invalid(model, {name: value for name, value in values.items() if name not in wrong}) & set(fields)
    mistakes = [
        Mistake(
            file, line, name, key, describe_column(fields[name]), f"'{named[name]}'", _hint(fields[name], named[name])
        )
        for name in fields
        if name in wrong
    ]
    if any(fields[name].is_required() for name in wrong):
        return None, mistakes
    return model.model_validate({name: value for name, value in values.items() if name not in wrong}), mistakes


def _invalid(model: type[Row], values: Mapping[str, str]) -> set[str]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return {str(detail["loc"][0]) for detail in error.errors()}
    return set()


def _is_well_formed(field: FieldInfo, cell: str) -> bool:
    """Return whether a cell is written as its column wants: pydantic would also take '1e3', '3.0' for 3 and '1_000'."""
    kind, _ = _unwrap(field.annotation)
    pattern = {int: _WHOLE, float: _NUMBER}.get(kind)
    return pattern is None or bool(pattern.fullmatch(cell))


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """Return (the type a cell is read as, whether it may be blank)."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [each for each in get_args(annotation) if each is not type(None)]
        return kinds[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def _hint(field: FieldInfo, cell: str) -> str:
    """Return what to do about a wrong cell, "" where nothing is known but what is allowed."""
    kind, optional = _unwrap(field.annotation)
    number = kind in (int, float)
    hints = (
        (not cell, "Fill it in."),
        (optional and cell.lower() in _UNKNOWN, "Leave it blank where it is unknown."),
        (number and re.fullmatch(r"-?\d+,\d+", cell), "Write a decimal point, not a comma."),
        (number and re.match(r"[<>≤≥~]", cell), "Give the number alone, or leave it blank."),
        (_SPREADSHEET.fullmatch(cell), "A spreadsheet may have changed it: format the column as text, type it again."),
    )
    words = {str(word).lower(): str(word) for word in get_args(kind)} if get_origin(kind) is Literal else {}
    close = difflib.get_close_matches(cell.lower(), words, n=1, cutoff=0.5)
    meant = f"Did you mean '{words[close[0]]}'?" if close else ""
    return next((text for applies, text in hints if applies), meant)
