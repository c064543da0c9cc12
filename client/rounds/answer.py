"""A site's answer to a request: train or evaluate what was sent with what was kept, and release."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from prostafed.client.gate.release import list_payload, list_update, release
from prostafed.client.gate.telling import describe, list_told_splits
from prostafed.client.gate.told import tell_once
from prostafed.client.rounds.local_round import train_round
from prostafed.client.rounds.memory import find_answer, stage_folder, tidy
from prostafed.client.rounds.several_processes import train_together
from prostafed.client.rounds.starting import load_network
from prostafed.client.rounds.workplace import Workplace, open_workplace
from prostafed.client.site.site_file import Site
from prostafed.client.training.evaluate import assess
from prostafed.client.training.machine import Machine, say_once
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import CheckpointError, RequestError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.exchange.released import COHORT
from prostafed.common.imaging.folds import SPLITS
from prostafed.common.metrics.cohort import count_cohort
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.summary import N
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.files import make_folder, write_text
from prostafed.common.ssl import build_method
from prostafed.common.study import Finetune, Pretrain, Study, parse_study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tasks import build_task
from prostafed.common.tensors import hash_tensors, read_tensors

__all__ = ["Workplace", "evaluate", "introduce", "load_network", "open_workplace", "predictions_file", "train"]


def introduce(workplace: Workplace) -> Reply:
    """Return the site's name and, where its site file says so, who its patients are."""
    site, study = workplace.site, workplace.study
    counts: dict[str, float] = {}
    if site.share_cohort:
        vendors = {f"scanner/{vendor}": 1.0 for vendor in site.scanners}
        counts = count_cohort(workplace.cases.records, site.minimum_cell) | vendors
    told = {f"{COHORT}/{name}": count for name, count in counts.items()}
    return release(Reply(site.name, study.hash(), metrics=told), ())


def train(workplace: Workplace, request: Request) -> Reply:
    """Train one round; what does not travel is kept on the site's disk before anything is sent.

    A request that was answered before gets the same answer, without training; one whose training was interrupted goes
    on where the site's last checkpoint is.
    """
    _check_request(workplace.study, request)
    folder = make_folder(stage_folder(workplace.site.memory, request.run, request.stage))
    asked = (request.stage, request.round, request.study_hash, hash_tensors(request.tensors))
    reply = find_answer(folder, *asked)
    if reply is None:
        tidy(folder, request.round)
        machine = _describe_machine(workplace, request)
        run = train_round if machine.ranks == 1 else train_together
        reply = run(workplace, request, folder, asked[-1], machine)
    return release(reply, _list_names(workplace.study.canonical(), request.stage))


def _describe_machine(workplace: Workplace, request: Request) -> Machine:
    """Return how the site trains this stage: in one process where the loss cannot be divided."""
    site, stage = workplace.site, workplace.study.stage[request.stage - 1]
    divisible = not isinstance(stage, Pretrain)
    if isinstance(stage, Pretrain):
        divisible = build_method(stage.method, stage.method_parameters()).decomposes_per_sample
    if site.processes > 1 and not divisible:
        say_once("processes is not used: this stage's loss compares the cases of a batch with each other.")
    return replace(workplace.machine, ranks=site.processes if divisible else 1)


@lru_cache(maxsize=16)
def _list_names(canonical: str, number: int) -> frozenset[str]:
    """Return the names of what may leave in a stage, from the study alone."""
    study = parse_study(canonical)
    network, stage = build_stage_network(study, number), study.stage[number - 1]
    layout = list_update(read_tensors(network), shared_names(network, stage), AGGREGATORS[stage.aggregate].rule)
    return list_payload(layout, study.round.compress)


def evaluate(workplace: Workplace, request: Request) -> Reply:
    """Evaluate what was sent, with the heads kept after this round; predictions stay at the site, their summary
    leaves. About the test patients one model is answered, and no other.
    """
    _check_request(workplace.study, request)
    if "test" not in request.splits:
        return release(_evaluate(workplace, request), ())
    digest = hash_tensors(request.tensors)
    return release(tell_once(workplace.site.memory, request, digest, lambda: _evaluate(workplace, request)), ())


def _evaluate(workplace: Workplace, request: Request) -> Reply:
    study, site = workplace.study, workplace.site
    stage = study.stage[request.stage - 1]
    assert isinstance(stage, Finetune), "checked"
    network = load_network(workplace, request, request.round)
    task, metrics, cases = build_task(stage.task), dict[str, float](), 0
    records, seed = workplace.cases.records, derive_seed(study.seed, request.stage, site.name, "bootstrap")
    telling = frozenset(SPLITS)  # of the diagnoses of whose patients the site tells
    if site.share_cohort:
        telling = list_told_splits(records, workplace.splits, task.usable, site.minimum_cell)
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
            workplace.machine,
        )
        _write_predictions(predictions_file(site, request, split), predictions)
        told = describe(predictions, seed, site.minimum_cell, diagnoses=split in telling, histograms=split == "test")
        cases += int(told.get(N, 0))
        metrics |= {f"{split}/{name}": value for name, value in told.items()}
    return Reply(site.name, request.study_hash, request.stage, request.round, cases, metrics=metrics)


def predictions_file(site: Site, request: Request, split: str) -> Path:
    """Return where a site keeps its last predictions of a split."""
    return stage_folder(site.memory, request.run, request.stage) / f"predictions-{split}.jsonl"


def _write_predictions(path: Path, predictions: Sequence[CasePrediction]) -> None:
    make_folder(path.parent)  # a site that never trained in this stage has none
    write_text(path, "".join(json.dumps(asdict(prediction)) + "\n" for prediction in predictions))


def _check_request(study: Study, request: Request) -> None:
    """Raise CheckpointError for another study's request, RequestError for a stage, round or split the study has not.

    Of the test patients nothing is told before a stage's last round.
    """
    if request.study_hash != study.hash():
        raise CheckpointError(
            "The request names another study than the one this run was started with. Start the run again."
        )
    if not 1 <= request.stage <= len(study.stage):
        raise RequestError(f"The request names stage {request.stage}; the study has {len(study.stage)}.")
    stage = study.stage[request.stage - 1]
    if not 1 <= request.round <= stage.rounds:
        raise RequestError(f"The request names round {request.round}; stage {request.stage} has {stage.rounds}.")
    if request.action != "evaluate":
        return
    if not isinstance(stage, Finetune):
        raise RequestError(f"Stage {request.stage} is self-supervised: there is nothing to evaluate.")
    asked = list(request.splits)
    if not asked or sorted(asked) != sorted(set(asked) & set(SPLITS)):
        raise RequestError(f"The request names the splits {asked}; they are among {list(SPLITS)}, each once.")
    if "test" in asked and request.round != stage.rounds:
        raise RequestError(
            f"The request asks for test patients in round {request.round}; they are for the last one, {stage.rounds}."
        )
