"""Three CSV files -> a Manifest: its rows, and what is wrong with them, each mistake filed under its case."""

from pathlib import Path
from typing import TypeVar

from prostafed.client.findings import Finding, make_finding
from prostafed.client.manifest.checks import check_lesions, check_reads, check_studies
from prostafed.client.manifest.records import Manifest, ManifestFinding
from prostafed.client.manifest.rows import LESIONS, READS, STUDIES, TABLES, LesionRow, ReadRow, StudyRow
from prostafed.common.errors import DataError
from prostafed.common.shell.tables import Mistake, Row, Table, raise_mistakes, read_table

RowT = TypeVar("RowT", bound=Row)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder`: studies.csv, and lesions.csv and reads.csv where they exist.

    A wrong cell does not end it: it is blank in its row and stands in `findings`. Raises DataError where a file is no
    such table at all, or a line of studies.csv cannot be told the study of: it may be of a patient who objects.
    """
    studies, lesions, reads = read_tables(folder)
    unreadable = [mistake for table in (studies, lesions, reads) if not table.readable for mistake in table.mistakes]
    known = {line for line, _ in studies.rows}
    unreadable += [mistake for mistake in studies.mistakes if studies.readable and mistake.line not in known]
    raise_mistakes([_from_mistake(mistake).text for mistake in unreadable])
    return make_manifest(studies, lesions, reads)


def read_tables(folder: Path) -> tuple[Table[StudyRow], Table[LesionRow], Table[ReadRow]]:
    """Return the three tables with their mistakes; raises DataError where there is no studies.csv."""
    if not (folder / STUDIES).is_file():
        raise DataError(
            f"Expected {STUDIES} in the manifest's folder, found none. Make it: prostafed-site manifest init, or "
            "manifest import."
        )
    return (
        read_table(folder / STUDIES, StudyRow),
        _read_if_there(folder / LESIONS, LesionRow),
        _read_if_there(folder / READS, ReadRow),
    )


def make_manifest(studies: Table[StudyRow], lesions: Table[LesionRow], reads: Table[ReadRow]) -> Manifest:
    """Return tables as a manifest, with what is wrong in each and between them."""
    rows = tuple(row for _, row in studies.rows)
    findings = [
        *(_from_mistake(mistake) for table in (studies, lesions, reads) for mistake in table.mistakes),
        *check_studies(studies.rows),
        *check_lesions(lesions.rows, rows),
        *check_reads(reads.rows, rows),
    ]
    return Manifest(
        rows, tuple(row for _, row in lesions.rows), tuple(row for _, row in reads.rows), findings=tuple(findings)
    )


def check_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder` with every finding, those too for which `read_manifest` would raise."""
    return make_manifest(*read_tables(folder))


def find_mistakes(manifest: Manifest, row: StudyRow, case_id: str) -> tuple[Finding, ...]:
    """Return what is wrong with `row`, its lesions and its reads, as findings about the pseudonym `case_id`."""
    return tuple(
        make_finding(case_id, each.code, each.text, each.severity)
        for each in manifest.findings
        if each.case_id == row.case_id
    )


def _read_if_there(path: Path, model: type[RowT]) -> Table[RowT]:
    return read_table(path, model) if path.is_file() else Table((), ())


def _from_mistake(mistake: Mistake) -> ManifestFinding:
    place = f"{mistake.file}: line {mistake.line}"  # an unknown column's name is a cell's contents, too
    known = {name for model in TABLES.values() for name in model.model_fields}
    place += f", column {mistake.column}" if mistake.column in known else ""
    text = f"{place}: expected {mistake.expected}, found something else; correct it (prostafed-site manifest check)."
    return ManifestFinding("LABEL_RANGE", "F", mistake.key, text, str(mistake))
