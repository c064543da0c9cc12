"""Studies from the archive into a folder: <out>/<study>/<series>/<number>.dcm, all names pseudonyms.

What is complete stays; called again, only missing instances are asked for. The files themselves are the archive's,
with the patient's name in them: the folder belongs where the hospital keeps such data, and nothing of it leaves.
"""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydicom.dataset import Dataset

from prostafed.client.ingest.pacs.archive import Ask, asking, get, listening, move
from prostafed.client.ingest.pacs.association import STORED, PacsError, PacsServer, RetrievalError
from prostafed.client.ingest.pacs.shelf import Shelf, get_text, get_texts, read_present
from prostafed.client.site.identity import make_pseudonym
from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import make_folder

_COLUMNS = {"accession_number": "AccessionNumber", "patient_id": "PatientID"}


@dataclass(frozen=True)
class StudyQuery:
    """Which studies; what is left out does not limit. `listed`: (AccessionNumber or PatientID, value), any of them."""

    since: date | None = None
    until: date | None = None
    description: str = ""  # of the study: a part of it, in any case
    modality: str = "MR"
    listed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PullRequest:
    """What to fetch, whence, whither. By C-MOVE the archive connects to us, on `listen_port`."""

    server: PacsServer
    wanted: StudyQuery
    out: Path
    secret: bytes
    method: Literal["get", "move"] = "get"
    listen_port: int = 11113
    listen_host: str = ""
    dry_run: bool = False  # only ask what there is


@dataclass(frozen=True)
class _Series:
    uid: str
    folder: Path
    instances: frozenset[str]


def pull(request: PullRequest, on_study: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Fetch the wanted studies and return {"studies": [{study, status, found, fetched, present}], "counts": {...}}.

    `status` is "complete", "partial" (the archive did not send everything: call again), "failed" (it ended the
    transfer with an error) or, in a dry run, "found"; the numbers count instances. `on_study` is called with (done,
    studies). Raises PacsError where the archive cannot be reached or refuses, ConfigurationError where `out` cannot be
    written to; whole files are kept.
    """
    uids = _find_studies(request)
    if not request.dry_run:
        make_folder(request.out)
    studies, shelf = [], Shelf()
    with _receiving(request, shelf):
        for done, uid in enumerate(uids, start=1):
            study = _pull_study(request, uid, shelf)
            if study["found"]:  # an archive may ignore the modality when asked for studies
                studies.append(study)
            if on_study is not None:
                on_study(done, len(uids))
    counts = {name: sum(study[name] for study in studies) for name in ("found", "fetched", "present")}
    return {"studies": studies, "counts": {"studies": len(studies), **counts}}


def read_wanted_list(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the accession numbers or patient ids of a CSV file with a column accession_number or patient_id.

    Raises ConfigurationError, without repeating a cell, where the file is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path} as UTF-8 text. Save the list as CSV UTF-8.") from error
    table = csv.DictReader(io.StringIO(text, newline=""))
    columns = [name for name in table.fieldnames or () if name.strip().lower() in _COLUMNS]
    if len(columns) != 1:
        raise ConfigurationError(
            f"{path}: expected one column called accession_number or patient_id, found {len(columns)}. Name one in "
            "line 1."
        )
    values = [(row[columns[0]] or "").strip() for row in table]
    unusable = [line for line, value in enumerate(values, start=2) if any(sign in value for sign in "*?\\")]
    if unusable or not any(values):
        where = f"line {unusable[0]} holds * ? or \\" if unusable else "it holds no value"
        raise ConfigurationError(f"{path}: expected one number per line, but {where}. Correct the list.")
    return tuple((_COLUMNS[columns[0].strip().lower()], value) for value in dict.fromkeys(values) if value)


def _find_studies(request: PullRequest) -> list[str]:
    """Return the StudyInstanceUIDs of the wanted studies, each once, oldest first."""
    wanted, found = request.wanted, {}
    queries = []
    for keyword, value in wanted.listed or (("AccessionNumber", ""),):
        query = _make_query("STUDY", StudyInstanceUID="", PatientID="", AccessionNumber="", StudyTime="")
        query.StudyDate = _format_range(wanted.since, wanted.until)
        query.ModalitiesInStudy = wanted.modality
        query.StudyDescription = ""  # matched here: archives tell upper from lower case
        setattr(query, keyword, value)
        queries.append(query)
    with asking(request.server) as ask:
        for answer in (answer for query in queries for answer in ask(query)):
            if wanted.description and "StudyDescription" not in answer:
                raise PacsError("The archive does not tell studies' descriptions. Limit by date or by a list instead.")
            if _matches(answer, wanted):
                found[get_text(answer, "StudyInstanceUID")] = get_text(answer, "StudyDate") + get_text(
                    answer, "StudyTime"
                )
    return sorted((uid for uid in found if uid), key=lambda uid: (found[uid], uid))


def _matches(answer: Dataset, wanted: StudyQuery) -> bool:
    """Whether a study is wanted: archives may ignore keys they do not support."""
    modalities, day = get_texts(answer, "ModalitiesInStudy"), get_text(answer, "StudyDate")
    return not (
        (modalities and wanted.modality not in modalities)
        or (day and wanted.since and day < f"{wanted.since:%Y%m%d}")
        or (day and wanted.until and day > f"{wanted.until:%Y%m%d}")
        or wanted.description.lower() not in get_text(answer, "StudyDescription").lower()
    )


def _receiving(request: PullRequest, shelf: Shelf) -> AbstractContextManager[None]:
    if request.dry_run or request.method == "get":
        return nullcontext()
    return listening(request.server, request.listen_port, shelf.store, request.listen_host)


def _pull_study(request: PullRequest, uid: str, shelf: Shelf) -> dict[str, Any]:
    study = make_pseudonym(request.secret, "study", uid)
    with asking(request.server) as ask:
        series = [
            _Series(each, request.out / study / make_pseudonym(request.secret, "series", each), instances)
            for each, instances in _list_series(ask, request.wanted.modality, uid)
        ]
    found = sum(len(each.instances) for each in series)
    if request.dry_run:
        return {"study": study, "status": "found", "found": found, "fetched": 0, "present": 0}
    before = {each.uid: read_present(each.folder) & each.instances for each in series}
    shelf.expect(uid, {each.uid: each.folder for each in series}, before)
    queries = [query for each in series for query in _ask_for(uid, each, before[each.uid])]
    failed = False
    try:
        if queries and request.method == "get":
            get(request.server, queries, shelf.store)
        elif queries:
            move(request.server, queries)
    except RetrievalError:
        failed = True  # this study's; others may do better
    if shelf.failure is not None:
        raise shelf.failure
    present = sum(len(each) for each in before.values())
    after = sum(len(read_present(each.folder) & each.instances) for each in series)
    status = "complete" if after == found else "failed" if failed else "partial"
    return {"study": study, "status": status, "found": found, "fetched": after - present, "present": present}


def _list_series(ask: Ask, modality: str, study_uid: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield (SeriesInstanceUID, SOPInstanceUIDs of its images) of a study's series of that modality."""
    answers = ask(_make_query("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality=modality))
    wanted = [answer for answer in answers if get_text(answer, "Modality") in ("", modality)]
    for uid in dict.fromkeys(get_text(answer, "SeriesInstanceUID") for answer in wanted):  # some say a series twice
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": uid, "SOPInstanceUID": "", "SOPClassUID": ""}
        images = [each for each in ask(_make_query("IMAGE", **keys)) if get_text(each, "SOPClassUID") in ("", *STORED)]
        yield uid, frozenset(get_text(each, "SOPInstanceUID") for each in images) - {""}


def _ask_for(study_uid: str, series: _Series, present: frozenset[str]) -> list[Dataset]:
    """Return the queries for what is missing: the series in one, or its missing instances one by one."""
    missing = sorted(series.instances - present)
    if missing and not present:
        return [_make_query("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series.uid)]
    return [
        _make_query("IMAGE", StudyInstanceUID=study_uid, SeriesInstanceUID=series.uid, SOPInstanceUID=uid)
        for uid in missing
    ]


def _make_query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _format_range(since: date | None, until: date | None) -> str:
    """Return DICOM's range matching, open where a side is None; "" matches every date."""
    first, last = (f"{day:%Y%m%d}" if day else "" for day in (since, until))
    return f"{first}-{last}" if first or last else ""
