"""The arms of a comparison: the same study run federated, by each hospital alone, with all cases in one place, with a
personal model per hospital, and without the hospital that is tested.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prostafed.common.study import Study, parse_study
from prostafed.simulations.faults import Fault
from prostafed.simulations.hospitals import Hospital, write_flipped_cases, write_pooled_folder, write_site_folder


@dataclass(frozen=True)
class ArmRun:
    """One federation to run for an arm: its sites' files lie in `folder`/sites/NAME/site.toml."""

    arm: str
    run: str
    study: Study
    folder: Path
    site_files: tuple[Path, ...]
    weight: int  # hospitals whose cases it trains on
    initial: Path | None = None  # file the encoder starts from, where the study names one
    faults: Mapping[str, Sequence[Fault]] = field(default_factory=dict)  # what goes wrong, by site
    unseen: str = ""  # hospital it is judged at, which takes no part; else it is judged at its own sites


def plan_arms(study: Study, hospitals: Sequence[Hospital], folder: Path, initial: Path | None = None) -> list[ArmRun]:
    """Write the site folders of every arm the study compares and return what is to be run, the federation first.

    Trouble is the federation's alone: the arms it is held against run undisturbed, on true labels. An ensemble is made
    of what the hospitals learn alone, which is run for it even where that is no arm of its own.
    """

    def plan(arm: str, run: str, members: Sequence[Hospital], learnt: Study = study, unseen: str = "") -> ArmRun:
        sites = folder / run / "sites"
        files = tuple(write_site_folder(sites / hospital.name, hospital) for hospital in members)
        fitting = _reachable(learnt, len(members))
        return ArmRun(arm, run, fitting, folder / run, files, len(members), initial, unseen=unseen)

    compare = set(study.arms.compare)
    federated = plan("federated", "federated", hospitals)
    for hospital, file in zip(hospitals, federated.site_files, strict=True):
        if any(fault.kind == "label_flip" for fault in hospital.faults):
            write_flipped_cases(file.parent, hospital, study)
    faults = {hospital.name: hospital.faults for hospital in hospitals if hospital.faults}
    runs = [replace(federated, faults=faults)]
    if compare & {"local", "ensemble"}:
        runs += [plan("local", f"local-{hospital.name}", [hospital]) for hospital in hospitals]
    if "pooled" in compare:
        pooled = write_pooled_folder(folder / "pooled" / "sites" / "pooled", hospitals, study)
        runs.append(
            ArmRun("pooled", "pooled", _reachable(study, 1), folder / "pooled", (pooled,), len(hospitals), initial)
        )
    if "personal" in compare:
        runs.append(plan("personal", "personal", hospitals, _personal(study)))
    if "unseen" in compare and len(hospitals) > 1:
        for hospital in hospitals:
            others = [other for other in hospitals if other is not hospital]
            runs.append(plan("unseen", f"unseen-{hospital.name}", others, unseen=hospital.name))
    return runs


def _personal(study: Study) -> Study:
    """Return the study with a personal model per site in every supervised stage."""
    values = json.loads(study.canonical())
    for stage in values["stage"]:
        if stage["kind"] == "finetune":
            stage |= {"aggregate": "ditto", "aggregate_parameters": {}}
    return parse_study(json.dumps(values))


def _reachable(study: Study, sites: int) -> Study:
    """Return the study with no larger quorum than there are sites: what a round needs is the federation's affair."""
    if study.round.quorum <= sites:
        return study
    return study.model_copy(update={"round": study.round.model_copy(update={"quorum": sites})})
