"""The loop over the stages of a study. It knows neither Flower nor arms."""

import json
from collections.abc import Callable
from pathlib import Path

from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network, held_groups, shared_names
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import Tensors, hash_tensors, read_tensors, select_groups
from prostafed.server.aggregation import Aggregator, build_aggregator
from prostafed.server.records.ledger import Entry
from prostafed.server.run.checkpoints import RunState
from prostafed.server.run.evaluation import evaluate_round
from prostafed.server.run.round import ReadyStage, finish_round
from prostafed.server.run.run import OpenRun, Sites


def run_stages(
    study: Study, name: str, sites: Sites, folder: Path, load_initial: Callable[[], Tensors] = dict
) -> Tensors:
    """Run every round of `study` that `folder` does not hold yet and return the global tensors; those of them that were
    trained become model.safetensors. `load_initial` gives what the first stage's encoder starts from; it is asked in a
    new run only.

    A run taken up again after a round first completes the evaluation of it. Raises RoundError when a round or an
    evaluation stays below the quorum and the study does not say to try again, or not any more.
    """
    aggregators = [build_aggregator(each.aggregate, each.aggregator_parameters()) for each in study.stage]
    run = OpenRun(study, name, sites, folder)
    if run.state.round:
        evaluate_round(run, run.state.stage, run.state.round)
    for number, section in enumerate(study.stage, start=1):
        done = section.rounds if number < run.state.stage else 0
        if number == run.state.stage:
            done = run.state.round
        if done == section.rounds:
            continue
        plan = _plan_stage(study, number, aggregators[number - 1])
        if done == 0:
            encoder = select_groups(run.state.tensors or load_initial(), ("encoder",))
            run.state = RunState(number, 0, {**plan.initial, **encoder}, rejected=run.state.rejected)
        for round_number in range(done + 1, section.rounds + 1):
            finish_round(run, plan, round_number)
            evaluate_round(run, number, round_number)
    run.trackers.close()
    _save_model(study, run.state.tensors, folder / "model.safetensors")
    run.ledger.add(Entry("finished", run.state.stage, run.state.round, model=hash_tensors(run.state.tensors)))
    return run.state.tensors


def _save_model(study: Study, tensors: Tensors, path: Path) -> None:
    """Write the tensors that were trained in the federation, the names of those left out, and how patients are split.

    What never travelled is at the server as it was drawn, or as it came: it would pass as trained.
    """
    trained = frozenset[str]().union(
        *(shared_names(build_stage_network(study, number), stage) for number, stage in enumerate(study.stage, start=1))
    )
    metadata = {
        "study": study.canonical(),
        "study_hash": study.hash(),
        "split": describe_split(study),
        "left_out": json.dumps(sorted(set(tensors) - trained)),
    }
    save_checkpoint(path, {name: array for name, array in tensors.items() if name in trained}, metadata)


def _plan_stage(study: Study, number: int, aggregator: Aggregator) -> ReadyStage:
    section = study.stage[number - 1]
    network = build_stage_network(study, number)
    initial = select_groups(read_tensors(network), held_groups(network, section))
    return ReadyStage(number, section, initial, shared_names(network, section), aggregator)
