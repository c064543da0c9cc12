"""A site, opened for a study."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from prostafed.client.gate.admission import admit_cases
from prostafed.client.site.site_file import Site, open_site
from prostafed.client.training.feed import Feed
from prostafed.client.training.machine import Machine
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import CaseFolder, open_case_folder
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.folds import Splits, read_splits
from prostafed.common.shell.files import holding, make_folder, write_json
from prostafed.common.study import Study, parse_study
from prostafed.common.study.split import draw_patients, name_split, split_patients


@dataclass(frozen=True)
class Workplace:
    """A site, opened for a study."""

    site: Site
    study: Study
    cases: CaseFolder
    splits: Splits
    device: torch.device
    folder: Path  # of the site file

    @property
    def machine(self) -> Machine:
        """How the site's networks run, in one process."""
        return Machine(self.site.precision, self.site.micro_batch, self.site.compile)

    def feed(self, chosen: Sequence[int]) -> Feed:
        """Return what the site's networks see of the `chosen` cases."""
        hideable = [self.study.data.sequences.index(name) for name in self.study.data.allow_missing]
        return Feed(self.cases, chosen, self.cases.grid, self.device, hideable)


@lru_cache(maxsize=64)
def open_workplace(site_file: Path, canonical: str, run: int = 0) -> Workplace:
    """Open a site's cases for a study in canonical form; raises DataError where they lie on another grid.

    What was opened stays open for the run whose id is `run`: its cases do not change under it. The next run sees what
    was indexed meanwhile.
    """
    site, study = open_site(site_file), parse_study(canonical)
    indexed = open_case_folder(site.cases)
    cases = admit_cases(indexed, study.data)
    if site.threads:
        torch.set_num_threads(site.threads)
    if site.splits:
        kept_out = {record.case_id for record in indexed.records} - {record.case_id for record in cases.records}
        splits = read_splits(site.splits, cases.records, kept_out)
    else:
        splits = split_patients(study, cases.records, keep_sides(site.memory, study, cases.records))
    return Workplace(site, study, cases, splits, choose_device(site), site_file.resolve().parent)


def choose_device(site: Site) -> torch.device:
    """Return what a site trains on: the GPU, or the first GPU, that its site file grants, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if site.device == "auto" else site.devices[0])


def keep_sides(memory: Path, study: Study, records: Sequence[CaseRecord]) -> dict[str, str]:
    """Return the side of each patient, and keep it in memory/sides.json for every study that splits alike: whoever is
    indexed or labelled later, nobody who was trained on is tested. Raises DataError where the file is damaged.
    """
    path, name = make_folder(memory) / "sides.json", name_split(study)
    with holding(path.with_suffix(".lock"), wait=True):
        try:
            kept: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            sides = draw_patients(study, records) | dict(kept.get(name, {}))
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(
                f"{path} is damaged: it says which patients are trained on and which are tested. Restore it from a "
                "copy; without it, remove it, and start no study from a model trained before."
            ) from error
        if sides != kept.get(name):
            write_json(path, {**kept, name: sides})
    return sides
