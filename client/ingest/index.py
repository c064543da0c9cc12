"""A site's index: every study made a case or refused with a sentence; what has not changed since last time is kept.

OUT/<case>.safetensors     one per study that can be used
OUT/index.json             what was found, by pseudonym; see `entries`
OUT/series_map.csv         which series is used as what; fill use_as to choose another
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prostafed.client.findings import make_finding
from prostafed.client.gate.opt_out import keep_opted_out, read_opted_out
from prostafed.client.ingest.assemble import Assembled, Wanted, assemble_files, assemble_study
from prostafed.client.ingest.entries import (
    INDEX,
    Entry,
    describe_study,
    find_gone,
    list_series,
    read_entries,
    summarise,
)
from prostafed.client.ingest.patients import describe_shared, find_shared_numbers
from prostafed.client.ingest.plan import Plan, Planning, make_plans, name_root
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.client.ingest.series_map import apply_uses, name_series, read_uses, write_series_map
from prostafed.client.ingest.workers import map_in_processes
from prostafed.client.manifest import Manifest, read_manifest
from prostafed.client.manifest.rows import STUDIES
from prostafed.client.site.identity import read_secret
from prostafed.client.site.site_file import Site, find_dicom
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import case_path, read_record, write_case
from prostafed.common.imaging.cases import Grid
from prostafed.common.shell.files import make_folder, write_json
from prostafed.common.study import Data

SERIES_MAP = "series_map.csv"
FEW = 4  # studies that are made sooner than workers start
SAVE_EVERY_S = 1.0  # the index of thousands of studies takes a while to write


@dataclass(frozen=True)
class IndexRequest:
    """What to index, for which study, and where to."""

    dicom: Path | None  # root of the export
    out: Path
    secret: bytes
    grid: Grid
    sequences: tuple[str, ...]
    allow_missing: tuple[str, ...] = ()
    manifest: Manifest | None = None
    manifest_folder: Path | None = None
    series_map: Path | None = None  # by default OUT/series_map.csv, where there is one
    center: str = ""
    memory: Path | None = None  # where it is kept who objects, so that a running worker sees it
    dry_run: bool = False  # look at everything, write nothing
    workers: int | None = None


def request_index(site: Site, data: Data, dicom: Path | None) -> IndexRequest:
    """Return what is indexed for a study with `data`: the export `dicom`, else the site file's, with the manifest where
    there is one. Raises ConfigurationError where the secret, the export or the manifest is wrong.
    """
    secret = read_secret(site.secret)
    has_manifest = (site.manifest / STUDIES).is_file()
    return IndexRequest(
        dicom=None if has_manifest and not (dicom or site.dicom) else find_dicom(site, dicom),
        out=site.cases,
        secret=secret,
        grid=Grid(data.spacing_mm, data.size),
        sequences=data.sequences,
        allow_missing=data.allow_missing,
        manifest=read_manifest(site.manifest) if has_manifest else None,
        manifest_folder=site.manifest if has_manifest else None,
        center=site.center,
        memory=site.memory,
    )


def index_site(request: IndexRequest, on_study: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Make a case of every study that can be used and return the index (`entries.summarise`).

    A case is written before it enters OUT/index.json, which is replaced every second and at the end: what was
    interrupted goes on where it stopped. A study whose files, masks, row and grid are those of last time is not read
    again. A case goes away when its study is refused, no longer in the folder it came from (SOURCE_GONE), or one of a
    patient who objects, whichever of his studies the manifest says it of.

    `on_study(done, of)` is called as studies are done. Raises ConfigurationError for a folder that cannot be read or
    written or a wrong series map, DataError where a case cannot be written.
    """
    map_path = request.series_map or request.out / SERIES_MAP
    uses = read_uses(map_path) if request.series_map or map_path.is_file() else {}
    manifest = request.manifest or Manifest(())
    studies, findings = ([], []) if request.dicom is None else read_studies(request.dicom, workers=request.workers)
    homeless = [each for each in manifest.findings if not each.case_id]
    findings += [make_finding("-", each.code, each.text, each.severity) for each in homeless]
    wanted = Wanted(request.grid, request.sequences, request.allow_missing)
    site = Planning(request.secret, request.dicom, manifest, request.manifest_folder, request.center, wanted)
    known, roots = read_entries(request.out), _list_roots(request, found_any=bool(studies))
    plans = [plan for plan in make_plans(site, studies, uses) if not _lies_elsewhere(plan, known, roots)]
    if not request.dry_run:
        make_folder(request.out)

    objecting = _find_objecting(request, plans)
    plans = [replace(plan, opted_out=True) if plan.known.patient_id in objecting else plan for plan in plans]
    unnamed = [plan.study for plan in plans if plan.study and not plan.opted_out and not plan.has_patient_key]
    findings += describe_shared(find_shared_numbers(unnamed))
    opted_out = {plan.known.case_id for plan in plans if plan.opted_out}
    total = len(plans) - len(opted_out)
    if objecting:
        opted_out |= {case_id for case_id in known if _whose(request, case_id) in objecting}
    if gone := find_gone(known, plans, roots):
        text = f"{len(gone)} studies are no longer in the folder they came from, their cases were removed; index that "
        findings.append(make_finding("-", "SOURCE_GONE", f"{text}export again to have them back."))
    for case_id in (*gone, *opted_out):
        _remove(request, case_id)
    changed = {
        plan.known.case_id: plan
        for plan in plans
        if not plan.opted_out and not _is_unchanged(request.out, plan, known.get(plan.known.case_id))
    }
    entries = {case_id: entry for case_id, entry in known.items() if case_id not in {*gone, *opted_out, *changed}}
    counts = {"opted_out": len(opted_out), "reused": total - len(changed), "removed": len(gone)}

    say, saved_at = on_study or (lambda done, total: None), 0.0
    try:
        say(total - len(changed), total)
        made = _make_all(request, wanted, list(changed.values()), uses)
        for done, entry in enumerate(made, start=total - len(changed) + 1):
            entries[entry["study"]] = entry
            if time.monotonic() > saved_at + SAVE_EVERY_S:
                _save(request, summarise(entries, findings, counts, wanted))
                saved_at = time.monotonic()
            say(done, total)
    finally:
        index = summarise(entries, findings, counts, wanted)
        _save(request, index)
    if not request.dry_run:
        write_series_map(request.out / SERIES_MAP, list_series(index["studies"]), uses)
    return index


def _find_objecting(request: IndexRequest, plans: Sequence[Plan]) -> set[str]:
    """Return the patients who object, by pseudonym; it is kept before a case is removed.

    Whoever objected once does so until the manifest has a row that does not say so: one that is missing says nothing.
    """
    objecting = {plan.known.patient_id for plan in plans if plan.opted_out}
    objecting |= {_whose(request, plan.known.case_id) for plan in plans if plan.opted_out} - {""}
    willing = {plan.known.patient_id for plan in plans if plan.has_row} - objecting
    if request.memory is not None:
        objecting |= read_opted_out(request.memory).keys() - willing
        if not request.dry_run:
            keep_opted_out(request.memory, objecting, willing)
    return objecting


def _whose(request: IndexRequest, case_id: str) -> str:
    """Return whose case it is, as its file says: the images, which name the patient, may be gone. "" without a file."""
    with suppress(DataError):
        return read_record(case_path(request.out, case_id)).patient_id
    return ""


def make_case(plan: Plan, request: IndexRequest, wanted: Wanted, uses: Mapping[str, str]) -> Entry:
    """Make the case of one study, write it unless this is a dry run, and return its entry."""
    name = partial(name_series, request.secret)
    try:
        if plan.study is not None:
            study = apply_uses(plan.study, uses, request.secret)
            assembled = assemble_study(study, plan.known, wanted, name)
        else:
            assembled = assemble_files(plan.files, plan.known, wanted) if plan.files else Assembled(None)
    except Exception as error:  # no file of a study may end the index of a site; its words may hold paths
        text = f"expected a study this release can read, found one that stopped it ({type(error).__name__}); report it."
        assembled = Assembled(None, (make_finding(plan.known.case_id, "UNREADABLE", text, "F"),))
    entry = describe_study(plan, assembled, wanted.sequences, name)
    if entry["status"] == "refused":
        _remove(request, plan.known.case_id)
    elif not request.dry_run:
        assert assembled.case is not None
        write_case(request.out, *assembled.case, request.grid, request.sequences)
    return entry


def _make_all(request: IndexRequest, wanted: Wanted, plans: Sequence[Plan], uses: Mapping[str, str]) -> Iterator[Entry]:
    workers = min(request.workers or os.cpu_count() or 1, len(plans))
    light = replace(request, manifest=None)  # plans hold what they need of it; this goes along with each
    make = partial(make_case, request=light, wanted=wanted, uses=uses)
    if (workers <= 1 or len(plans) <= FEW) and not any(_needs_decoder(plan) for plan in plans):
        yield from map(make, plans)
        return
    for plan, entry in map_in_processes(make, plans, workers):
        yield entry or _refuse(request, plan)


def _refuse(request: IndexRequest, plan: Plan) -> Entry:
    """Return the entry of a study that ended the process that read it."""
    text = "expected a study this machine can read, found one that ended the process that read it: it is damaged, or "
    text += "too large for the memory; export it again."
    finding = make_finding(plan.known.case_id, "UNREADABLE", text, "F")
    _remove(request, plan.known.case_id)
    return describe_study(plan, Assembled(None, (finding,)), (), partial(name_series, request.secret))


def _needs_decoder(plan: Plan) -> bool:
    """Return whether pixels are compressed: a decoder may crash, which must not end this process."""
    syntaxes = {each.header.transfer_syntax for each in plan.study.series} if plan.study else set()
    return any(syntax.startswith(("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")) for syntax in syntaxes)


def _save(request: IndexRequest, index: dict[str, Any]) -> None:
    if not request.dry_run:
        write_json(request.out / INDEX, index)


def _remove(request: IndexRequest, case_id: str) -> None:
    if not request.dry_run:
        case_path(request.out, case_id).unlink(missing_ok=True)


def _list_roots(request: IndexRequest, found_any: bool) -> set[str]:
    """Return the pseudonyms of the folders that were looked into; an empty one may be a disk that is not there."""
    roots = [request.dicom] if request.dicom is not None and found_any else []
    if request.manifest is not None and request.manifest.studies and request.manifest_folder is not None:
        roots.append(request.manifest_folder)
    return {name_root(request.secret, root) for root in roots}


def _lies_elsewhere(plan: Plan, known: Mapping[str, Entry], roots: set[str]) -> bool:
    """Return whether a row of the manifest is that of a study in the index whose folder was not looked into.

    Who objects is left out wherever the study lies.
    """
    entry = known.get(plan.known.case_id)
    is_bare = plan.study is None and not plan.files and not plan.opted_out
    return is_bare and entry is not None and entry["root"] not in roots


def _is_unchanged(out: Path, plan: Plan, entry: Entry | None) -> bool:
    if entry is None or entry["fingerprint"] != plan.fingerprint:
        return False
    return entry["status"] == "refused" or case_path(out, plan.known.case_id).is_file()
