"""The quality report as one HTML file that asks nothing of the network, with its figures as JSON beside it."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from prostafed.client.ingest.quality import figures
from prostafed.client.ingest.quality.figures import StudyFigures
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import CaseFolder, open_case_folder
from prostafed.common.imaging.cases import MASKS, Grid, Image, Masks
from prostafed.common.pages.page import format_number, open_templates
from prostafed.common.pages.pictures import GLAND_COLOUR, LESION_COLOUR, SEQUENCES, Picture, draw_picture
from prostafed.common.shell.files import make_folder, write_json, write_text

INDEX = "index.json"
MOST_PICTURES = 60  # cases shown, of perhaps thousands: a page of 4 MB
PIXELS = 280  # of a picture, wide


@dataclass(frozen=True)
class CasePictures:
    """The pictures of a case and what they show."""

    case_id: str
    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    site: str
    grid: dict[str, Any]
    sequences: tuple[str, ...]
    studies: tuple[StudyFigures, ...]
    site_findings: tuple[tuple[str, str, str], ...]
    opted_out: int
    cases: CaseFolder | None


def write_quality_report(
    cases: Path,
    out: Path,
    site: str,
    on_case: Callable[[int, int], None] = lambda done, count: None,
    pictures: int = MOST_PICTURES,
) -> dict[str, Any]:
    """Write the report on the indexed folder `cases` to `out`, its figures beside it as JSON, and return the figures.

    At most `pictures` cases are shown. Raises DataError where `cases` has not been indexed.
    """
    report = read_report(cases, site)
    make_folder(out.parent)
    records = report.cases.records if report.cases else ()
    summary = figures.summarise(report.studies, records)
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {
        "number": format_number,
        "spacing": figures.format_spacing,
        "b_values": figures.format_b_values,
    }
    page = environment.get_template("report.html.j2").render(
        report=report,
        summary=summary,
        labels=figures.count_labels(records),
        protocols=figures.tabulate_protocols(report.studies),
        codes=figures.count_findings(report.studies),
        kinds=[kind for kind in figures.KINDS if any(study.kinds.get(kind) for study in report.studies)],
        generated=sum(record.generated for record in records),
        shown=list(_draw(report, pictures, on_case)),
        sequence_labels=SEQUENCES,
        colours={"gland": GLAND_COLOUR, "lesion": LESION_COLOUR},
        small=figures.SMALL,
        min_patients=figures.MIN_PATIENTS,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_text(out, page)
    write_json(out.with_suffix(".json"), summary)
    return summary


def read_report(cases: Path, site: str) -> Report:
    """Return what the index and the cases in `cases` say; raises DataError where there is no index."""
    try:
        index = json.loads((cases / INDEX).read_text(encoding="utf-8"))
        studies = tuple(figures.describe_study(entry) for entry in index["studies"])
        findings = figures.list_findings(index["findings"])
        grid, sequences = index["grid"], tuple(index["sequences"])
        opted_out = index["counts"].get("opted_out", 0)
    except OSError as error:
        raise DataError(f"Expected {INDEX} in the folder of cases, found none. Run: prostafed-site index.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{INDEX} is not one this release has written. Index again: prostafed-site index.") from error
    usable = any(study.usable for study in studies)
    folder = open_case_folder(cases) if usable else None
    return Report(site, grid, sequences, studies, findings, opted_out, folder)


def _draw(report: Report, most: int, on_case: Callable[[int, int], None]) -> Iterator[CasePictures]:
    if report.cases is None:
        return
    chosen = choose_cases(report.studies, [record.case_id for record in report.cases.records], most)
    for done, number in enumerate(chosen):
        on_case(done, len(chosen))
        record = report.cases.records[number]
        present = [name if name in record.sequences else None for name in report.cases.sequences]
        yield draw_case(record.case_id, *report.cases.load(number), report.cases.grid, present)
    on_case(len(chosen), len(chosen))


def choose_cases(studies: Sequence[StudyFigures], case_ids: Sequence[str], most: int) -> list[int]:
    """Return the places of the cases to show: those with warnings first, then the others, each by case id."""
    warned = {study.study for study in studies if study.status == "warning"}
    return sorted(range(len(case_ids)), key=lambda place: (case_ids[place] not in warned, case_ids[place]))[:most]


def draw_case(case_id: str, image: Image, masks: Masks, grid: Grid, present: Sequence[str | None]) -> CasePictures:
    """Return pictures of the slice `choose_slice` names; `present` has a name per channel, None where it is missing."""
    z, reason = choose_slice(masks)
    planes = {name: image[channel, z].astype(np.float32) for channel, name in enumerate(present) if name}
    outlines = {name: masks[MASKS.index(name), z].astype(np.float32) for name in ("gland", "lesion")}
    spacing_mm = (grid.spacing_mm[1], grid.spacing_mm[2])
    pictures = tuple(
        Picture(
            SEQUENCES.get(name, name),
            draw_picture({**planes, **outlines}, name, spacing_mm, pixels=PIXELS, small_file=True),
        )
        for name in planes
    )
    return CasePictures(case_id, f"slice {z + 1} of {image.shape[1]} ({reason})", pictures)


def choose_slice(masks: Masks) -> tuple[int, str]:
    """Return the slice of masks (MASKS, z, y, x) to show, and why: the largest area of lesion, else of gland or zones,
    else the middle one.
    """
    for name, reason in (
        ("lesion", "the largest lesion area"),
        ("gland", "the largest gland"),
        ("zones", "the largest zones"),
    ):
        areas = np.count_nonzero(masks[MASKS.index(name)], axis=(1, 2))
        if areas.any():
            return int(areas.argmax()), reason
    return masks.shape[1] // 2, "the middle one"
