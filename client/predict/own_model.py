"""A site's own model: what the coordinator holds of it, completed with the heads and parts that stayed at the site."""

import json
from pathlib import Path

from prostafed.client.rounds.memory import recall, stage_folder
from prostafed.client.site.site_file import Site
from prostafed.common.bundle import card
from prostafed.common.bundle.record import Bundle, Thresholds, describe
from prostafed.common.bundle.write import Draft, write_bundle
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study, rename_keys

HOW_TESTED = (
    "Not measured for this bundle. What the site measured of this network in the run stands in its memory and in the "
    "coordinator's report, under the site's name."
)


def export_own(site: Site, run: str, model: Path, out: Path, thresholds: Thresholds) -> Bundle:
    """Write the bundle of a run's last stage as this site has it, to the new folder `out`: the tensors of `model`, the
    run's model.safetensors from the coordinator, and over them what the site kept after its last round.

    Raises CheckpointError where `model` is no run's, or the two do not make the whole network; ConfigurationError where
    the site kept nothing of the run.
    """
    sent, metadata = read_checkpoint(model)
    if "study" not in metadata:
        raise CheckpointError(
            f"{model} names no study. Ask the coordinator for the model.safetensors of the run {run}."
        )
    study = parse(rename_keys(json.loads(metadata["study"])), Study, str(model))
    stage = len(study.stage)
    describe(study, stage)
    memory = recall(stage_folder(site.memory, run, stage), study.stage[-1].rounds, metadata["study_hash"])
    if memory is None:
        raise ConfigurationError(
            f"{site.memory} holds nothing of stage {stage} of the run {run}. Check the run's name; the model can be "
            "exported where the site took part only."
        )
    draft = Draft(
        study=study,
        stage=stage,
        tensors={**sent, **(memory.personal or memory.tensors)},
        where=f"{model} and what the site kept of {run}",
        card=_write_card(site, study, run, thresholds),
        authors=f"The site {site.name}, with the federation of the study {study.name}",
        origin=site.name,
        thresholds=thresholds,
    )
    return write_bundle(out, draft)


def _write_card(site: Site, study: Study, run: str, thresholds: Thresholds) -> str:
    task = str(describe(study, len(study.stage))["task"])
    origin = (("study", study.name), ("study hash", study.hash()), ("run", run), ("site", site.name))
    sections = {
        "": "The parts that were shared are the federation's; the heads, and whatever else the study keeps local, are "
        "this site's, fitted to its scanners and readers.",
        "Intended use": card.describe_use(task),
        "Input": card.describe_input(study),
        "Output": card.describe_output(task, thresholds),
        "How well it did": HOW_TESTED,
        "Privacy": "The heads were trained on this site's cases and never left it: to pass this bundle on is to "
        "release them, and weights may tell something of the cases (membership inference).",
        "Limits": card.list_limits(task),
        "Where it comes from": card.tabulate(("what", "value"), origin),
    }
    return card.write_sections(f"{study.name}, {task}, of the site {site.name}", sections)
