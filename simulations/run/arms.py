"""The arms of a comparison: the same study run federated, by each hospital alone, with all cases in one place, with a
personal model per hospital, and without the hospital that is tested.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prostafed.common.errors import ConfigurationError
from prostafed.common.study import Finetune, Study, parse_study
from prostafed.common.study.split import split_patients
from prostafed.common.study.sums import FEWEST_MASKED, FIXED
from prostafed.common.tasks import build_task
from prostafed.simulations.federation.faults import SPOILING, Fault
from prostafed.simulations.federation.hospitals import (
    Hospital,
    write_flipped_cases,
    write_pooled_folder,
    write_site_folder,
)


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
    obstacle: str = ""  # a sentence where it cannot be run at all; it is then left out


def plan_arms(study: Study, hospitals: Sequence[Hospital], folder: Path, initial: Path | None = None) -> list[ArmRun]:
    """Write the site folders of every arm the study compares and return what is to be run, the federation first.

    Trouble is the federation's alone: the arms it is held against run undisturbed, on true labels. An ensemble is made
    of what the hospitals learn alone, which is run for it even where that is no arm of its own. An arm that its sites
    cannot run says why; raises ConfigurationError where that is the federation itself.
    """

    def plan(arm: str, run: str, members: Sequence[Hospital], learnt: Study = study, unseen: str = "") -> ArmRun:
        sites = folder / run / "sites"
        files = tuple(write_site_folder(sites / hospital.name, hospital) for hospital in members)
        fitting = _fit(learnt, len(members))
        obstacle = _find_obstacle(fitting, members, len(members))
        return ArmRun(arm, run, fitting, folder / run, files, len(members), initial, unseen=unseen, obstacle=obstacle)

    if obstacle := _find_obstacle(study, hospitals, len(hospitals)):
        raise ConfigurationError(f"The federation cannot run this study. {obstacle}")
    compare = set(study.arms.compare)
    spoilt = sorted({fault.kind for hospital in hospitals for fault in hospital.faults} & {*SPOILING})
    if spoilt and study.round.compress in FIXED:
        raise ConfigurationError(
            f"The faults {', '.join(spoilt)} spoil floats on their way; with compress '{study.round.compress}' whole "
            "numbers travel, under secure_aggregation masked ones. Leave them out, or use label_flip."
        )
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
        runs.append(ArmRun("pooled", "pooled", _fit(study, 1), folder / "pooled", (pooled,), len(hospitals), initial))
    if "personal" in compare:
        runs.append(plan("personal", "personal", hospitals, _personal(study)))
    if "unseen" in compare and len(hospitals) > 1:
        for hospital in hospitals:
            others = [other for other in hospitals if other is not hospital]
            unseen = plan("unseen", f"unseen-{hospital.name}", others, unseen=hospital.name)
            runs.append(replace(unseen, obstacle=unseen.obstacle or _find_nobody(study, hospital)))
    return runs


def _personal(study: Study) -> Study:
    """Return the study with a personal model per site in every supervised stage."""

    def personalise(values: dict[str, Any]) -> None:
        for stage in values["stage"]:
            if stage["kind"] == "finetune":
                stage |= {"aggregate": "ditto", "aggregate_parameters": {}}

    return _change(study, personalise)


def _fit(study: Study, sites: int) -> Study:
    """Return the study as so many sites can run it: with no larger quorum than there are (what a round needs is the
    federation's affair), and, for one site, with its own update in the place of a choice among several.
    """
    unmasks = study.privacy.secure_aggregation and sites < FEWEST_MASKED  # it hides nothing from a simulation anyway
    if study.round.quorum <= sites and sites > 1 and not unmasks:
        return study

    def fit(values: dict[str, Any]) -> None:
        values["round"]["quorum"] = min(study.round.quorum, sites)
        if unmasks:  # the whole numbers stay, so that the arms differ in nothing else
            values["privacy"] |= {"secure_aggregation": False, "threshold": 0}
        for stage, section in zip(values["stage"], study.stage, strict=True):
            if sites == 1 < section.fewest_sites():
                stage |= {"aggregate": "fedavg", "aggregate_parameters": {}}

    return _change(study, fit)


def _change(study: Study, change: Callable[[dict[str, Any]], None]) -> Study:
    values = json.loads(study.canonical())
    change(values)
    return parse_study(json.dumps(values))


def _find_nobody(study: Study, hospital: Hospital) -> str:
    """Return a sentence where the last task can judge none of the hospital's test patients."""
    stage, records = study.stage[-1], hospital.cases.records
    tested = split_patients(study, records)["test"]
    if not isinstance(stage, Finetune) or any(build_task(stage.task).usable(records[index]) for index in tested):
        return ""
    return f"None of the test cases of {hospital.name} has what the task {stage.task} is judged by."


def find_few_sites(study: Study, sites: int) -> str:
    """Return a sentence where masks, or the aggregator of a stage, need more than so many sites, "" where none does."""
    if study.privacy.secure_aggregation and sites < FEWEST_MASKED:
        return f"secure_aggregation needs {FEWEST_MASKED} sites, here are {sites}. Add sites, or leave it out."
    for number, stage in enumerate(study.stage, start=1):
        if stage.fewest_sites() > sites:
            return (
                f"Stage {number}: {stage.aggregate} needs {stage.fewest_sites()} sites, here are {sites}. "
                "Add sites, or choose another aggregator."
            )
    return ""


def _find_obstacle(study: Study, members: Sequence[Hospital], sites: int) -> str:
    """Return a sentence on why so many sites with the members' cases cannot run `study`, "" where they can."""
    if few := find_few_sites(study, sites):
        return few
    splits = [split_patients(study, each.cases.records) for each in members]
    for number, stage in enumerate(study.stage, start=1):
        if not isinstance(stage, Finetune):
            continue
        usable = build_task(stage.task).usable
        able = [
            any(usable(each.cases.records[index]) for index in split["train"])
            for each, split in zip(members, splits, strict=True)
        ]
        if not any(able):
            names = ", ".join(each.name for each in members)
            return f"Stage {number}: none of the training cases of {names} has what the task {stage.task} learns from."
    return ""
