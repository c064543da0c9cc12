"""A site's answer to a request: build the network, load what was sent and what was kept, train or evaluate, keep,
release.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from prostafed.client.gate import admit_cases
from prostafed.client.memory import recall, remember, stage_folder
from prostafed.client.release import release
from prostafed.client.site import Site, read_site
from prostafed.client.training.evaluate import assess
from prostafed.client.training.finetune import Tuning, finetune
from prostafed.client.training.optimise import Optimisation, TrainingRecord, decayed
from prostafed.client.training.pretrain import pretrain
from prostafed.common.errors import CheckpointError, DataError
from prostafed.common.files import make_folder, write_text
from prostafed.common.imaging.budget import choose_labelled
from prostafed.common.imaging.case_folder import CaseFolder, open_case_folder
from prostafed.common.imaging.folds import Splits, read_splits, split_cases
from prostafed.common.messages import Reply, Request
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import summarise
from prostafed.common.progress import Step, tell
from prostafed.common.seeding import derive_seed
from prostafed.common.ssl import build_method
from prostafed.common.ssl.targets import follow
from prostafed.common.study import Finetune, Pretrain, Study, parse_study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tasks import build_task
from prostafed.common.tensors import read_tensors, select_groups, write_tensors


@dataclass(frozen=True)
class Workplace:
    """A site, opened for a study."""

    site: Site
    study: Study
    cases: CaseFolder
    splits: Splits
    device: torch.device


@lru_cache(maxsize=64)
def open_workplace(site_file: Path, canonical: str) -> Workplace:
    """Open a site's cases for a study in canonical form; raises DataError where they lie on another grid."""
    site, study = read_site(site_file), parse_study(canonical)
    indexed = open_case_folder(site.cases)
    cases = admit_cases(indexed, study.data)
    if site.threads:
        torch.set_num_threads(site.threads)
    name = ("cuda" if torch.cuda.is_available() else "cpu") if site.device == "auto" else site.device
    if site.splits:
        kept_out = {record.case_id for record in indexed.records} - {record.case_id for record in cases.records}
        splits = read_splits(site.splits, cases.records, kept_out)
    else:
        splits = split_cases(cases.records, study.seed, study.data.validation_fraction, study.data.test_fraction)
    return Workplace(site, study, cases, splits, torch.device(name))


def load_network(workplace: Workplace, request: Request, memory_round: int) -> nn.ModuleDict:
    """Return the stage's network with the tensors that were sent and those the site kept up to `memory_round`.

    Targets that a site has not kept start equal to what they follow.
    """
    network = build_stage_network(workplace.study, request.stage)
    kept = recall(stage_folder(workplace.site.memory, request.run, request.stage), memory_round, request.study_hash)
    if kept:
        write_tensors(network, kept)
    write_tensors(network, request.tensors)
    stage = workplace.study.stage[request.stage - 1]
    if not kept and isinstance(stage, Pretrain):
        follow(network, build_method(stage.method, stage.method_parameters()).targets, momentum=0.0)
    return network


def train(workplace: Workplace, request: Request) -> Reply:
    """Train one round; what does not travel is kept on the site's disk before anything is sent."""
    study = workplace.study
    _check_request(study, request)
    stage = study.stage[request.stage - 1]
    network = load_network(workplace, request, request.round - 1)
    record = _train(workplace, request, network)
    tensors = read_tensors(network.to("cpu"))
    shared = select_groups(tensors, stage.share)
    kept = {name: array for name, array in tensors.items() if name not in shared}
    folder = stage_folder(workplace.site.memory, request.run, request.stage)
    remember(folder, request.round, kept, request.study_hash)
    metrics = {"train/loss": record.loss}
    generated = sum(workplace.cases.records[index].source == "phantom" for index in workplace.splits["train"])
    if generated:  # said wherever their results go: no report may take them for patients
        metrics["train/generated"] = float(generated)
    return release(
        replace(_reply(workplace, request), cases=record.cases, tensors=shared, metrics=metrics), tensors, stage.share
    )


def _train(workplace: Workplace, request: Request, network: nn.ModuleDict) -> TrainingRecord:
    study = workplace.study
    stage = study.stage[request.stage - 1]
    settings = Optimisation(
        epochs=stage.epochs,
        batch_size=stage.batch_size,
        learning_rate=decayed(stage.learning_rate, request.round, stage.rounds),
        weight_decay=stage.weight_decay,
        seed=derive_seed(study.seed, request.stage, request.round, workplace.site.name, "training"),
    )

    def on_step(step: int, steps: int, loss: float) -> None:
        tell(Step(workplace.site.name, request.stage, request.round, step, steps, loss))

    data, cases, chosen, device = study.data, workplace.cases, workplace.splits["train"], workplace.device
    hideable = [data.sequences.index(name) for name in data.allow_missing]
    if isinstance(stage, Pretrain):
        method = build_method(stage.method, stage.method_parameters())
        return pretrain(network, method, cases, chosen, data.spacing_mm, settings, device, on_step, hideable)
    task = build_task(stage.task)
    chosen = choose_labelled(cases.records, chosen, task.usable, stage.labels, study.seed)
    tuning = Tuning(stage.freezes_encoder(request.round), stage.layer_decay)
    return finetune(network, task, cases, chosen, data.spacing_mm, settings, device, on_step, hideable, tuning)


def evaluate(workplace: Workplace, request: Request) -> Reply:
    """Evaluate what was sent, with the heads kept after this round; predictions stay at the site, their summary
    leaves.
    """
    study = workplace.study
    _check_request(study, request)
    stage = study.stage[request.stage - 1]
    if not isinstance(stage, Finetune):
        raise DataError(f"Stage {request.stage} is self-supervised: there is nothing to evaluate.")
    network = load_network(workplace, request, request.round)
    task, metrics, cases = build_task(stage.task), {}, 0
    for split in request.splits:
        predictions = assess(
            network,
            task,
            workplace.cases,
            workplace.splits[split],
            study.data.spacing_mm,
            stage.batch_size,
            workplace.device,
            study.data.size,
        )
        _write_predictions(predictions_file(workplace.site, request, split), predictions)
        cases += len(predictions)
        summary = summarise(predictions, derive_seed(study.seed, request.stage, workplace.site.name, "bootstrap"))
        metrics[f"{split}/n"] = float(len(predictions))
        labels = [prediction.label for prediction in predictions if prediction.label is not None]
        if labels:  # a task that does not judge csPCa counts none
            metrics[f"{split}/positives"] = float(sum(labels))
        metrics.update({f"{split}/{name}": value for name, value in summary.items()})
    return release(replace(_reply(workplace, request), cases=cases, metrics=metrics), {}, ())


def predictions_file(site: Site, request: Request, split: str) -> Path:
    """Return where a site keeps its last predictions of a split."""
    return stage_folder(site.memory, request.run, request.stage) / f"predictions-{split}.jsonl"


def _write_predictions(path: Path, predictions: Sequence[CasePrediction]) -> None:
    make_folder(path.parent)  # a site that never trained in this stage has none
    write_text(path, "".join(json.dumps(asdict(prediction)) + "\n" for prediction in predictions))


def _reply(workplace: Workplace, request: Request) -> Reply:
    return Reply(workplace.site.name, request.study_hash, request.stage, request.round)


def _check_request(study: Study, request: Request) -> None:
    if request.study_hash != study.hash():
        raise CheckpointError(
            "The request names another study than the one this run was started with. Start the run again."
        )
    if not 1 <= request.stage <= len(study.stage):
        raise CheckpointError(f"The request names stage {request.stage}; the study has {len(study.stage)}.")
