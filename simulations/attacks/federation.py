"""A finished simulation as an attack finds it: models, sites, who was trained on and who was not."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.common.errors import DataError
from prostafed.common.imaging.label_share import choose_labelled
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Finetune, Study
from prostafed.common.tasks import build_task
from prostafed.server.records.read import RunFolder, read_run
from prostafed.simulations.run.arms import ArmRun
from prostafed.simulations.run.ensembling import load_last
from prostafed.simulations.run.export import read_finished


@dataclass(frozen=True)
class AttackedSite:
    """A site of the federation, opened, after its last round."""

    place: Workplace
    arm: ArmRun
    members: tuple[int, ...]  # indices of the cases that the last stage trained on
    others: tuple[int, ...]  # of its test cases, of which nothing was learnt

    @property
    def name(self) -> str:
        """The site's name."""
        return self.place.site.name

    def network(self) -> nn.ModuleDict:
        """Return the network as it is after the last round: what was shared, and the site's own heads."""
        return load_last(self.arm, self.place)


@dataclass(frozen=True)
class Attacked:
    """A finished simulation."""

    run: RunFolder
    study: Study
    sites: tuple[AttackedSite, ...]

    @property
    def stage(self) -> Finetune:
        """The last stage; raises DataError where it is self-supervised."""
        last = self.study.stage[-1]
        if not isinstance(last, Finetune):
            raise DataError("The study ends with pretraining, which has no labels to attack with.")
        return last

    def reference(self, site: AttackedSite) -> nn.ModuleDict | None:
        """Return a network that saw none of the site's cases: what the next hospital learnt alone, where the run has
        that arm; else None.
        """
        names = [each.name for each in self.sites]
        other = names[(names.index(site.name) + 1) % len(names)]
        folder = self.run.path / "arms" / f"local-{other}"
        if other == site.name or not (folder / "model.safetensors").is_file():
            return None
        arm = _open_arm(folder, "local")
        return load_last(arm, open_workplace(arm.site_files[0], arm.study.canonical()))


def open_attacked(path: Path) -> Attacked:
    """Return the finished simulation in the folder `path`; raises as `read_finished` does, and DataError where its
    cases are gone.
    """
    read_finished(path)
    arm = _open_arm(path / "arms" / "federated", "federated")
    return Attacked(read_run(path), arm.study, tuple(_open_site(arm, file) for file in arm.site_files))


def _open_arm(folder: Path, arm: str) -> ArmRun:
    study = parse(read_run(folder).study, Study, str(folder / "study.json"))
    files = tuple(sorted((folder / "sites").glob("*/site.toml")))
    return ArmRun(arm, folder.name, study, folder, files, len(files))


def _open_site(arm: ArmRun, site_file: Path) -> AttackedSite:
    place, stage = open_workplace(site_file.resolve(), arm.study.canonical()), arm.study.stage[-1]
    if not isinstance(stage, Finetune):
        return AttackedSite(place, arm, tuple(place.splits["train"]), tuple(place.splits["test"]))
    records, usable = place.cases.records, build_task(stage.task).usable
    members = choose_labelled(records, place.splits["train"], usable, stage.labels, arm.study.seed)
    others = tuple(index for index in place.splits["test"] if usable(records[index]))
    return AttackedSite(place, arm, tuple(members), others)
