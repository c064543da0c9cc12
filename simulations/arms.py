"""The arms of a comparison: the same study run federated, by each hospital alone, and with all cases in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prostafed.common.study import Study
from prostafed.simulations.hospitals import Hospital, write_pooled_folder, write_site_folder


@dataclass(frozen=True)
class ArmRun:
    """One federation to run for an arm: its sites' files lie in `folder`/sites/NAME/site.toml."""

    arm: str
    run: str
    folder: Path
    site_files: tuple[Path, ...]
    weight: int  # hospitals whose cases it trains on


def plan_arms(study: Study, hospitals: Sequence[Hospital], folder: Path) -> list[ArmRun]:
    """Write the site folders of every arm the study compares and return what is to be run, the federation first."""

    def plan(arm: str, run: str, members: Sequence[Hospital]) -> ArmRun:
        sites = folder / run / "sites"
        files = tuple(write_site_folder(sites / hospital.name, hospital) for hospital in members)
        return ArmRun(arm, run, folder / run, files, len(members))

    runs = [plan("federated", "federated", hospitals)]
    if "local" in study.arms.compare:
        runs += [plan("local", f"local-{hospital.name}", [hospital]) for hospital in hospitals]
    if "pooled" in study.arms.compare:
        pooled = write_pooled_folder(folder / "pooled" / "sites" / "pooled", hospitals, study)
        runs.append(ArmRun("pooled", "pooled", folder / "pooled", (pooled,), len(hospitals)))
    return runs
