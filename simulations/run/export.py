"""From a finished simulation to a bundle in one step, and the commands that come next."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError, DataError, nearest
from prostafed.common.shell.command import say_command
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Finetune, Study
from prostafed.server.records.lines import SiteLine
from prostafed.server.records.read import read_run

FEDERATED = "federated"  # the arm, its folder and its name in the sites' memory
MODEL = "model.safetensors"


@dataclass(frozen=True)
class Finished:
    """What an export must know of a simulation's run."""

    folder: Path
    study: Study
    sites: tuple[SiteLine, ...]

    @property
    def names(self) -> list[str]:
        """Return the sites' names in the order of the federation."""
        return [site.name for site in self.sites]

    @property
    def is_whole(self) -> bool:
        """Return whether the federation owns a whole model: its heads travelled, and no part stayed at a site."""
        last = self.study.stage[-1]
        return isinstance(last, Finetune) and "heads" in last.share and not last.local

    def site_file(self, name: str) -> Path:
        """Return the site file of an emulated hospital in the federated arm."""
        return self.folder / "arms" / FEDERATED / "sites" / name / "site.toml"

    def bundle(self, site: str) -> Path:
        """Return where the bundle lies unless a person names another place; `site` is "" for the federation's."""
        return self.folder / (f"bundle-{site}" if site else "bundle")


def export_simulation(
    run: Path, site: str = "", out: Path | None = None, min_confidence: float | None = None
) -> dict[str, Any]:
    """Write the bundle of a simulation's federated model, with the heads of `site` where one is named, and return
    {bundle, task, site, model_sha256, generated}.

    No site need be named where the heads travelled or where there is one site. Every emulated hospital gets the secret
    it needs to predict with the bundle. Raises DataError where the run is not finished, ConfigurationError where it is
    no simulation, does not end with fine-tuning, or the site is not known.
    """
    from prostafed.client.predict.own_model import export_own
    from prostafed.client.site.identity import create_secret
    from prostafed.client.site.site_file import read_site_file
    from prostafed.common.bundle.record import Thresholds, describe, read_bundle
    from prostafed.server.export import export_run

    finished = read_finished(run)
    describe(finished.study, len(finished.study.stage))
    site = _choose_site(finished, site)
    for name in finished.names:
        if not (secret := read_site_file(finished.site_file(name)).secret).exists():
            create_secret(secret)
    target = out or finished.bundle(site)
    if site:
        thresholds = Thresholds() if min_confidence is None else Thresholds(min_confidence=min_confidence)
        export_own(read_site_file(finished.site_file(site)), FEDERATED, run / MODEL, target, thresholds)
    else:
        export_run(run, target, min_confidence)
    bundle = read_bundle(target)
    generated = any(each.generated for each in finished.sites)
    told = {"bundle": str(target), "task": bundle.task, "site": site, "generated": generated}
    return {**told, "model_sha256": bundle.model_sha256}


def list_next(run: Path) -> list[str]:
    """Return the commands that make a bundle of a finished run, generate a DICOM export, and read it with the bundle;
    none where the study ends with pretraining, whose encoder predicts nothing.
    """
    finished = read_finished(run)
    if not isinstance(finished.study.stage[-1], Finetune):
        return []
    first, generated = finished.sites[0], run / "dicom-export"
    vendor, name = first.scanner.get("vendor", "siemens"), first.name
    site = "" if finished.is_whole else name
    places = ("--dicom", generated / "dicom", "--out", run / "predictions")
    return [
        say_command("prostafed-sim", "export", run, *(("--site", site) if site else ())),
        say_command("prostafed-sim", "phantom", "--cases", 2, "--dicom", vendor, "--out", generated),
        say_command(
            "prostafed-site", "predict", "--site", finished.site_file(name), "--model", finished.bundle(site), *places
        ),
    ]


def read_finished(run: Path) -> Finished:
    """Return what an export must know of `run`; raises as `export_simulation` does."""
    record = read_run(run)
    if not (run / "federation.json").is_file():
        again = say_command("prostafed-server", "export", run)
        raise ConfigurationError(f"{run} is not the run of a simulation. To export a coordinator's run: {again}.")
    if not (run / MODEL).is_file():
        again = say_command("prostafed-sim", "run", "STUDY.toml", "FEDERATION.toml", "--out", run, "--resume")
        raise DataError(f"{run} is not finished: it holds no {MODEL}. Continue it, then export it: {again}.")
    return Finished(run, parse(record.study, Study, str(run / "study.json")), record.sites)


def _choose_site(finished: Finished, site: str) -> str:
    if site and site not in finished.names:
        raise ConfigurationError(f"--site: unknown site '{site}'{nearest(site, finished.names)}")
    if site or finished.is_whole:
        return site
    if len(finished.names) > 1:
        raise ConfigurationError(
            "The heads stayed at the sites, so the federation has no whole model. Name the site whose heads complete "
            f"it: --site {' or --site '.join(finished.names)}."
        )
    return finished.names[0]
