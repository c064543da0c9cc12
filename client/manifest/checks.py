"""What no single cell shows: rows of a manifest that contradict each other, or lack what another cell needs."""

import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from prostafed.client.manifest.labels import SIGNIFICANT_ISUP, grade_gleason
from prostafed.client.manifest.records import ManifestFinding
from prostafed.client.manifest.rows import LesionRow, ReadRow, StudyRow

MAX_PSAD_DIFFERENCE = 0.03  # ng/ml/ml between psad and psa / volume: the volume may be another day's

Placed = tuple[int, StudyRow]


def check_studies(rows: Iterable[Placed]) -> Iterator[ManifestFinding]:
    """Yield what is wrong in and between the rows of studies.csv; each row comes with its line."""
    rows = tuple(rows)
    yield from _check_repeats(rows)
    yield from _check_splits(rows)
    for line, row in rows:
        where = f"studies.csv: line {line}"
        yield from _check_labels(where, row)
        yield from _check_masks(where, row)
        if row.dicom_dir and (row.t2w or row.adc or row.hbv):
            yield _refuse("LABEL_RANGE", row, f"{where}: expected dicom_dir or image files, found both; keep one.")


def check_lesions(rows: Iterable[tuple[int, LesionRow]], studies: Iterable[StudyRow]) -> Iterator[ManifestFinding]:
    """Yield what is wrong in the rows of lesions.csv and between them and the studies."""
    by_id = {study.case_id: study for study in studies}
    seen: Counter[tuple[str, str]] = Counter()
    for line, row in rows:
        where = f"lesions.csv: line {line}"
        yield from _check_known(where, row, by_id)
        seen[row.case_id, row.lesion_id] += 1
        if seen[row.case_id, row.lesion_id] == 2:
            yield _refuse("LABEL_CONFLICT", row, f"{where}: expected every lesion of a case once, found one again.")
        grade = grade_gleason(row.gleason)
        if grade is not None and row.isup is not None and grade != row.isup:
            yield _refuse(
                "LABEL_CONFLICT",
                row,
                f"{where}, column isup: expected {grade}, the grade of its Gleason score, found another; correct one.",
            )
        isup = row.isup if row.isup is not None else grade
        case = by_id.get(row.case_id)
        if case and isup is not None and case.case_ISUP is not None and isup > case.case_ISUP:
            yield _refuse(
                "LABEL_CONFLICT",
                row,
                f"{where}: expected no lesion above the study's case_ISUP, found a higher grade; correct one of them.",
            )


def check_reads(rows: Iterable[tuple[int, ReadRow]], studies: Iterable[StudyRow]) -> Iterator[ManifestFinding]:
    """Yield what is wrong in the rows of reads.csv and between them and the studies."""
    by_id = {study.case_id: study for study in studies}
    seen: Counter[tuple[str, str, str, str | None]] = Counter()
    for line, row in rows:
        where = f"reads.csv: line {line}"
        yield from _check_known(where, row, by_id)
        key = (row.case_id, row.lesion_id, row.reader_id, row.read_type)
        seen[key] += 1
        if seen[key] == 2:
            yield _refuse(
                "LABEL_CONFLICT", row, f"{where}: expected every read of a lesion once per reader, found one again."
            )


def _check_repeats(rows: tuple[Placed, ...]) -> Iterator[ManifestFinding]:
    for column in ("case_id", "dicom_dir", "t2w"):
        first: dict[str, int] = {}
        for line, row in rows:
            value = getattr(row, column)
            if value is not None and first.setdefault(value, line) != line:
                yield _refuse(
                    "LABEL_CONFLICT",
                    row,
                    f"studies.csv: line {line}, column {column}: expected every study once, found the one of line "
                    f"{first[value]} again; remove one of the lines.",
                )


def _check_splits(rows: tuple[Placed, ...]) -> Iterator[ManifestFinding]:
    sides: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line, row in rows:
        if row.patient_key is None or row.split is None:
            continue
        other = next((at for side, at in sides[row.patient_key].items() if side != row.split), None)
        if other is not None:
            yield _refuse(
                "LABEL_CONFLICT",
                row,
                f"studies.csv: line {line}, column split: expected all studies of a patient on one side, found that of "
                f"line {other} on another; give both the same.",
            )
        sides[row.patient_key].setdefault(row.split, line)


def _check_labels(where: str, row: StudyRow) -> Iterator[ManifestFinding]:
    if (
        row.case_ISUP is not None
        and row.case_csPCa
        and (row.case_csPCa == "YES") != (row.case_ISUP >= SIGNIFICANT_ISUP)
    ):
        yield _refuse(
            "LABEL_CONFLICT",
            row,
            f"{where}, column case_csPCa: expected YES from ISUP {SIGNIFICANT_ISUP} on and NO below, found "
            f"{row.case_csPCa} at ISUP {row.case_ISUP}; correct one of them.",
        )
    if row.psad is not None and row.psa is not None and row.prostate_volume is not None:
        off = abs(row.psad - row.psa / row.prostate_volume)
        if off > MAX_PSAD_DIFFERENCE:
            text = (
                f"{where}, column psad: expected psa / prostate_volume within {MAX_PSAD_DIFFERENCE}, found a "
                f"difference of {off:.2f}; check the three values."
            )
            yield ManifestFinding("PSAD", "W", row.case_id, text)


def _check_masks(where: str, row: StudyRow) -> Iterator[ManifestFinding]:
    masks = [name for name in ("lesion_mask", "gland_mask", "zones_mask") if getattr(row, name)]
    if masks and row.mask_space is None:
        yield _refuse(
            "MASK_SPACE",
            row,
            f"{where}, column mask_space: expected the image {', '.join(masks)} was drawn on (t2w, adc or dwi), found "
            "a blank cell; fill it in.",
        )
    for mask, coding in (("lesion_mask", "mask_coding"), ("zones_mask", "zones_coding")):
        if getattr(row, mask) and getattr(row, coding) is None:
            yield _refuse(
                "MASK_LABEL",
                row,
                f"{where}, column {coding}: expected what the values of {mask} mean, found a blank cell; fill it in.",
            )


def _check_known(where: str, row: LesionRow | ReadRow, by_id: dict[str, StudyRow]) -> Iterator[ManifestFinding]:
    if row.case_id not in by_id:
        place = f"{where}, column case_id: expected a case of studies.csv, found"
        close = difflib.get_close_matches(row.case_id, by_id, n=1)
        meant = f" Did you mean '{close[0]}'?" if close else ""
        local = f"{place} '{row.case_id}'.{meant}"
        # Filed under no case: there is none it could refuse.
        yield ManifestFinding("LABEL_CONFLICT", "F", "", f"{place} one that is not there; correct it.", local)


def _refuse(code: str, row: StudyRow | LesionRow | ReadRow, text: str) -> ManifestFinding:
    return ManifestFinding(code, "F", row.case_id, text)
