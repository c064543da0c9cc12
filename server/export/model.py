"""The model of a run folder, whole; or why there is none."""

from dataclasses import dataclass
from pathlib import Path

from prostafed.common.bundle.record import describe
from prostafed.common.errors import CheckpointError, DataError
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.shell.configuration import parse
from prostafed.common.study import Finetune, Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import Tensors, group_of
from prostafed.server.records.read import read_run

MODEL = "model.safetensors"
NEEDED = {
    "rounds.jsonl": "its rounds are not known",
    "metrics.csv": "what it was tested with is not known",
    MODEL: "it has not come to its end",
}


@dataclass(frozen=True)
class RunModel:
    """The whole network of a run's last stage."""

    path: Path
    study: Study
    stage: int  # from 1
    tensors: Tensors


def read_model(run: Path) -> RunModel:
    """Return the model of the run folder `run`.

    Raises DataError where a file is missing or damaged, ConfigurationError where the study does not end with
    fine-tuning, CheckpointError where a part of the network lies at the sites.
    """
    record = read_run(run)
    for name, meaning in NEEDED.items():
        if not (run / name).is_file():
            raise DataError(
                f"{run} holds no {name}: {meaning}. Resume the run, or restore the file from a copy, then export."
            )
    study = parse(record.study, Study, str(run / "study.json"))
    stage = len(study.stage)
    describe(study, stage)
    section = study.stage[-1]
    assert isinstance(section, Finetune)
    tensors, metadata = read_checkpoint(run / MODEL)
    if metadata.get("study_hash") != record.study_hash:
        raise CheckpointError(
            f"{run / MODEL} was made by another study than {run / 'study.json'} names. Restore the two from one run."
        )
    _check_whole(study, stage, section, tensors, run)
    return RunModel(run / MODEL, study, stage, tensors)


def _check_whole(study: Study, stage: int, section: Finetune, tensors: Tensors, run: Path) -> None:
    ways = (
        'Either run a study whose fine-tuning stage says share = ["encoder", "heads"] and no `local`, or let a site '
        f"export the model with its own parts: prostafed-site export {run.name} --model {MODEL}; of a simulation, "
        "prostafed-sim export RUN --site NAME."
    )
    held = {group_of(name) for name in tensors}
    if lacking := [group for group in build_stage_network(study, stage) if group not in held]:
        raise CheckpointError(
            f"Expected a whole model in {run / MODEL}; it lacks {', '.join(lacking)}, which did not travel: the sites "
            f"have them. {ways}"
        )
    if section.local:
        raise CheckpointError(
            f"Expected a whole model in {run / MODEL}, but the study keeps {', '.join(section.local)} at the sites "
            f"(local): the coordinator's are untrained. {ways}"
        )
