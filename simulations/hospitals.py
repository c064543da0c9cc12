"""Emulated hospitals: their cases in a cache, and the site folder each of them would have in a real federation."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prostafed.common.files import make_folder, write_json, write_text
from prostafed.common.imaging.case_folder import CaseFolder, case_path, open_case_folder, write_case
from prostafed.common.imaging.cases import CaseRecord, Grid, Image, Masks
from prostafed.common.imaging.folds import split_cases, write_splits
from prostafed.common.provenance import fingerprint_files, read_versions
from prostafed.common.seeding import derive_seed
from prostafed.common.study import Study
from prostafed.simulations.federation import CasesSite, PhantomSite, PicaiSite, SimulatedSite

# (site, cases done, cases in all or 0 where not known)
OnCase = Callable[[str, int, int], None]
POOLED = "pooled"


@dataclass(frozen=True)
class Hospital:
    """One emulated hospital, its cases ready."""

    name: str
    source: str
    cases: CaseFolder
    fingerprint: str


def prepare_hospital(site: SimulatedSite, study: Study, cache: Path, on_case: OnCase) -> Hospital:
    """Return the hospital with its cases on the study's grid; what an earlier run prepared is taken from `cache`.

    A half-prepared hospital is continued. Raises DataError where a source holds a case that cannot be used.
    """
    if isinstance(site, CasesSite):
        folder = site.root
    else:
        folder = make_folder(cache / "cases" / _cache_key(site, study))
        if not (folder / "complete.json").exists():
            _fill(folder, site, study, on_case)
            write_json(folder / "complete.json", {"fingerprint": fingerprint_files(folder.glob("[!.]*.safetensors"))})
    complete = folder / "complete.json"
    if complete.exists():
        fingerprint = json.loads(complete.read_text())["fingerprint"]
    else:
        fingerprint = fingerprint_files(folder.glob("[!.]*.safetensors"))
    return Hospital(site.name, site.source, open_case_folder(folder), fingerprint)


def combine_fingerprints(hospitals: Sequence[Hospital]) -> str:
    """Return one fingerprint of all hospitals' cases."""
    text = "".join(f"{hospital.name}\0{hospital.fingerprint}\0" for hospital in hospitals)
    return hashlib.sha256(text.encode()).hexdigest()


def write_site_folder(folder: Path, hospital: Hospital) -> Path:
    """Write the site folder of `hospital` and return its site file."""
    make_folder(folder)
    write_text(folder / "site.toml", f'name = "{hospital.name}"\ncases = {json.dumps(str(hospital.cases.folder))}\n')
    return folder / "site.toml"


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
                link.symlink_to(case_path(hospital.cases.folder, record.case_id).resolve())
        records = hospital.cases.records
        splits = split_cases(records, study.seed, study.data.validation_fraction, study.data.test_fraction)
        sides |= {records[index].case_id: split for split, indices in splits.items() for index in indices}
    pooled = open_case_folder(cases)
    union = {
        split: [i for i, record in enumerate(pooled.records) if sides[record.case_id] == split]
        for split in set(sides.values())
    }
    write_splits(folder / "splits.csv", pooled.records, {"train": [], "validation": [], "test": [], **union})
    write_text(folder / "site.toml", f'name = "{POOLED}"\ncases = "cases"\nsplits = "splits.csv"\n')
    return folder / "site.toml"


def _fill(folder: Path, site: PhantomSite | PicaiSite, study: Study, on_case: OnCase) -> None:
    grid = Grid(study.data.spacing_mm, study.data.size)
    count = site.cases if isinstance(site, PhantomSite) else 0
    for number, (record, image, masks) in enumerate(_generate(folder, site, study, grid), start=1):
        write_case(folder, record, image, masks, grid, study.data.sequences)
        on_case(site.name, number, count)


def _generate(
    folder: Path, site: PhantomSite | PicaiSite, study: Study, grid: Grid
) -> Iterator[tuple[CaseRecord, Image, Masks]]:
    sequences = study.data.sequences
    if isinstance(site, PicaiSite):
        from prostafed.simulations.datasets.picai import import_picai

        centers = (site.center,) if site.center else ()
        for record, image, masks in import_picai(site.root, grid, sequences, centers):
            yield replace(record, case_id=f"{site.name}-{record.case_id}"), image, masks
        return
    from prostafed.simulations.phantom.case import generate_case

    seed = derive_seed(study.seed, "hospital", site.name)
    done = len(
        list(folder.glob("[!.]*.safetensors"))
    )  # written in order and whole: an interrupted hospital goes on here
    for index in range(done, site.cases):
        record, image, masks = generate_case(seed, index, site.center, site.scanner, site.readers, grid, sequences)
        case_id, patient_id = f"{site.name}-{record.case_id}", f"{site.name}-{record.patient_id}"
        yield replace(record, case_id=case_id, patient_id=patient_id), image, masks


def _cache_key(site: PhantomSite | PicaiSite, study: Study) -> str:
    """A key of everything the cases depend on; a new release prepares them again."""
    parts = {
        "site": site.model_dump(mode="json"),
        "data": study.data.model_dump(mode="json", include={"sequences", "spacing_mm", "size"}),
        "seed": study.seed if isinstance(site, PhantomSite) else None,
        "release": read_versions()["prostafed"],
        "files": _list_files(site.root) if isinstance(site, PicaiSite) else None,
    }
    return f"{site.name}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]}"


def _list_files(root: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file below `root`: a changed source is read again."""
    stats = ((path, path.stat()) for path in sorted(root.rglob("*")) if path.is_file())
    return [(str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
