"""Emulated hospitals: their cases in a cache, and the site folder each of them would have in a real federation."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prostafed.client.gate.admission import admit_cases
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import CaseFolder, case_path, open_case_folder, write_case
from prostafed.common.imaging.cases import GENERATED, Grid
from prostafed.common.imaging.folds import write_splits
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import link_to, make_folder, write_json, write_text
from prostafed.common.shell.provenance import fingerprint_files, read_versions
from prostafed.common.study import Study
from prostafed.common.study.split import split_patients
from prostafed.simulations.datasets import load_dataset
from prostafed.simulations.datasets.dataset import import_cases
from prostafed.simulations.datasets.study import Case, Selection
from prostafed.simulations.federation.faults import Fault, flip_labels
from prostafed.simulations.federation.federation_file import CasesSite, DatasetSite, PhantomSite, SimulatedSite
from prostafed.simulations.federation.workers import single_threaded_workers

# (site, cases done, cases in all or 0 where not known)
OnCase = Callable[[str, int, int], None]
POOLED = "pooled"
OWN_SPLITS = 'splits = "splits.csv"'  # in a site file
_CASES = "[!.]*.safetensors"
# Nobody is hidden from who holds all the cases, and a run is to give the same numbers again.
_PRIVACY = "\n[privacy]\nminimum_cohort = 1\nnoise_seed = 0\n"


@dataclass(frozen=True)
class Hospital:
    """One emulated hospital, its cases ready."""

    name: str
    source: str  # GENERATED wherever cases are generated, in whatever layout they came
    cases: CaseFolder
    fingerprint: str
    left_out: tuple[str, ...]  # one sentence per study that could not be used
    faults: tuple[Fault, ...] = ()
    minimum_cell: int = 1  # patients below which it tells nothing of them


def prepare_hospital(site: SimulatedSite, study: Study, cache: Path, on_case: OnCase) -> Hospital:
    """Return the hospital with its cases on the study's grid; what an earlier run prepared is taken from `cache`.

    A half-prepared hospital is continued. A study that cannot be used is left out, with a sentence why; raises
    DataError where none can be used.
    """
    if isinstance(site, CasesSite):
        fingerprint = fingerprint_files(site.root.glob(_CASES))
        return _open(site, study, site.root, fingerprint, ())
    folder = make_folder(cache / "cases" / _cache_key(site, study))
    complete = folder / "complete.json"
    if not complete.exists():
        left_out = _fill(folder, site, study, on_case)
        write_json(complete, {"fingerprint": fingerprint_files(folder.glob(_CASES)), "left_out": left_out})
    prepared = json.loads(complete.read_text(encoding="utf-8"))
    if not any(folder.glob(_CASES)):
        reasons = " ".join(prepared["left_out"]) or "The source holds none."
        raise DataError(f"Site '{site.name}' has no case that can be used. {reasons}")
    return _open(site, study, folder, prepared["fingerprint"], tuple(prepared["left_out"]))


def _open(site: SimulatedSite, study: Study, folder: Path, fingerprint: str, left_out: tuple[str, ...]) -> Hospital:
    cases = admit_cases(open_case_folder(folder), study.data)
    source = GENERATED if any(record.generated for record in cases.records) else site.source
    return Hospital(site.name, source, cases, fingerprint, left_out, site.faults, site.minimum_cell)


def combine_fingerprints(hospitals: Sequence[Hospital]) -> str:
    """Return one fingerprint of all hospitals' cases."""
    text = "".join(f"{hospital.name}\0{hospital.fingerprint}\0" for hospital in hospitals)
    return hashlib.sha256(text.encode()).hexdigest()


def write_site_folder(folder: Path, hospital: Hospital) -> Path:
    """Write the site folder of `hospital` and return its site file."""
    cases = str(hospital.cases.folder.resolve())
    return _write_site(make_folder(folder), hospital.name, cases, hospital.minimum_cell, "share_cohort = true")


def write_flipped_cases(folder: Path, hospital: Hospital, study: Study) -> None:
    """Give a site folder cases of its own, in which the training patients' labels are wrong."""
    cases, records = make_folder(folder / "cases"), hospital.cases.records
    splits = split_patients(study, records)  # of the true labels
    training = set(splits["train"])
    for index, record in enumerate(records):
        named = flip_labels(record) if index in training else record
        write_case(cases, named, *hospital.cases.load(index), hospital.cases.grid, hospital.cases.sequences)
    _write_site(folder, hospital.name, "cases", hospital.minimum_cell, OWN_SPLITS)
    write_splits(folder / "splits.csv", records, splits)


def write_pooled_folder(folder: Path, hospitals: Sequence[Hospital], study: Study) -> Path:
    """Write a site folder that holds every hospital's cases, each patient in the split of the own hospital; return its
    site file.
    """
    cases = make_folder(folder / "cases")
    sides: dict[str, str] = {}
    for hospital in hospitals:
        for record in hospital.cases.records:
            link = case_path(cases, record.case_id)
            if not link.exists():
                link_to(link, case_path(hospital.cases.folder, record.case_id).resolve())
        records = hospital.cases.records
        splits = split_patients(study, records)
        sides |= {records[index].case_id: split for split, indices in splits.items() for index in indices}
    pooled = open_case_folder(cases)
    union = {
        split: [i for i, record in enumerate(pooled.records) if sides[record.case_id] == split]
        for split in set(sides.values())
    }
    write_splits(folder / "splits.csv", pooled.records, {"train": [], "validation": [], "test": [], **union})
    return _write_site(folder, POOLED, "cases", max(hospital.minimum_cell for hospital in hospitals), OWN_SPLITS)


def _write_site(folder: Path, name: str, cases: str, minimum_cell: int, setting: str) -> Path:
    path, whose = folder / "site.toml", f'name = "{name}"\ncases = {json.dumps(cases)}'
    write_text(path, f"{whose}\n{setting}\nminimum_cell = {minimum_cell}\n{_PRIVACY}")
    return path


def _fill(folder: Path, site: PhantomSite | DatasetSite, study: Study, on_case: OnCase) -> list[str]:
    """Write the site's cases into `folder`; return a sentence for each study that was left out."""
    grid, sequences = Grid(study.data.spacing_mm, study.data.size), study.data.sequences
    left_out: list[str] = []
    if isinstance(site, PhantomSite):
        done = len(list(folder.glob(_CASES)))  # written in order and whole: an interrupted hospital goes on here
        cases, count = _generate(site, study, grid, done), site.cases
    else:
        centers = (site.center,) if site.center else ()
        selection = Selection(site.root, grid, sequences, study.data.allow_missing, centers, site.fold)
        cases = import_cases(load_dataset(site.source), selection, lambda error: left_out.append(str(error)))
        done, count = 0, 0
    for number, (record, image, masks) in enumerate(cases, start=done + 1):
        case_id, patient_id = f"{site.name}-{record.case_id}", f"{site.name}-{record.patient_id}"
        named = replace(record, case_id=case_id, patient_id=patient_id)
        write_case(folder, named, image, masks, grid, sequences)
        on_case(site.name, number, count)
    return left_out


def _generate(site: PhantomSite, study: Study, grid: Grid, first: int) -> Iterator[Case]:
    """Yield the site's cases from number `first` on, in order; made by a process per core, each with one thread."""
    arguments = {
        "seed": derive_seed(site.seed, "hospital", site.name),  # who the patients are is no matter of the study
        "center": site.center,
        "scanner": site.scanner,
        "readers": site.readers,
        "grid": grid,
        "sequences": study.data.sequences,
    }
    workers = min(os.cpu_count() or 1, max(1, site.cases - first))
    with single_threaded_workers(workers) as pool:
        yield from pool.map(partial(_generate_one, arguments), range(first, site.cases))


def _generate_one(arguments: dict[str, Any], index: int) -> Case:
    from prostafed.simulations.phantom.case import generate_case

    return generate_case(index=index, **arguments)


def _cache_key(site: PhantomSite | DatasetSite, study: Study) -> str:
    """A key of everything the cases depend on; a new release prepares them again."""
    parts = {
        "site": site.model_dump(mode="json", exclude={"faults", "minimum_cell"}),
        "data": study.data.model_dump(mode="json", include={"sequences", "allow_missing", "spacing_mm", "size"}),
        "release": read_versions()["prostafed"],
        "files": None if isinstance(site, PhantomSite) else _list_files(site.root),
    }
    return f"{site.name}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


def _list_files(root: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below `root`: a changed source is read again."""
    stats = ((path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file())
    return [(str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
