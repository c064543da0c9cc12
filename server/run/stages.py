"""The loop over stages and rounds: ask, aggregate, evaluate, record, checkpoint. It knows neither Flower nor arms."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Request
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.shell.progress import RoundDone, Said, mean_loss, tell
from prostafed.common.study import Finetune, Pretrain, Study
from prostafed.common.study.network import build_stage_network, held_groups, shared_names
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import Tensors, hash_tensors, read_tensors, select_groups
from prostafed.server.aggregation import build_aggregator
from prostafed.server.aggregation.aggregator import Aggregator
from prostafed.server.records.ledger import Entry
from prostafed.server.records.write import Row
from prostafed.server.run.checkpoints import RunState
from prostafed.server.run.divergence import find_diverged
from prostafed.server.run.evaluation import evaluate_round
from prostafed.server.run.metric_rows import metric_rows, plain_metrics
from prostafed.server.run.participants import count_rejections, draw_participants
from prostafed.server.run.run import Run, Sites
from prostafed.server.run.updates import Updates


@dataclass(frozen=True)
class StagePlan:
    """A stage, made ready."""

    number: int
    section: Pretrain | Finetune
    initial: Tensors  # untrained, of every group that sites are sent
    shared: frozenset[str]  # names of the tensors that sites send back
    aggregator: Aggregator


def run_stages(
    study: Study, name: str, sites: Sites, folder: Path, load_initial: Callable[[], Tensors] = dict
) -> Tensors:
    """Run every round of `study` that `folder` does not hold yet and return the global tensors; those of them that were
    trained become model.safetensors. `load_initial` gives what the first stage's encoder starts from; it is asked in a
    new run only.

    A run taken up again after a round first completes the evaluation of it. Raises RoundError when a round or an
    evaluation stays below the quorum and the study does not say to try again, or not any more.
    """
    run = Run(study, name, sites, folder)
    if run.state.round:
        evaluate_round(run, run.state.stage, run.state.round)
    for number, section in enumerate(study.stage, start=1):
        done = section.rounds if number < run.state.stage else 0
        if number == run.state.stage:
            done = run.state.round
        if done == section.rounds:
            continue
        plan = _plan_stage(study, number)
        if done == 0:
            encoder = select_groups(run.state.tensors or load_initial(), ("encoder",))
            run.state = RunState(number, 0, {**plan.initial, **encoder}, rejected=run.state.rejected)
        for round_number in range(done + 1, section.rounds + 1):
            _finish_round(run, plan, round_number)
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


def _plan_stage(study: Study, number: int) -> StagePlan:
    section = study.stage[number - 1]
    network = build_stage_network(study, number)
    initial = select_groups(read_tensors(network), held_groups(network, section))
    aggregator = build_aggregator(section.aggregate, section.aggregator_parameters())
    return StagePlan(number, section, initial, shared_names(network, section), aggregator)


def _finish_round(run: Run, plan: StagePlan, number: int) -> None:
    """Try a round until it is aggregated, as often as the study allows."""
    tries = 1 + (run.study.round.retries if run.study.round.below_quorum == "retry" else 0)
    for attempt in range(1, tries + 1):
        run.note_arrivals(plan.number, number)
        record = _try_round(run, plan, number, attempt)
        if record["aggregated"]:
            return
        reasons = "; ".join(f"{entry['site']}: {entry['code']} ({entry['text']})" for entry in record["rejections"])
        text = f"{record['problem']}: {reasons or 'nobody else is there'}"
        run.ledger.add(Entry("not-aggregated", plan.number, number, text=text))
        tell(Said("round", f"{number} was not aggregated: {text}"))
    raise RoundError(
        f"Round {number} of stage {plan.number} had {text}. It was not aggregated"
        f"{f' in {tries} tries' if tries > 1 else ''}. Mend that and resume the run."
    )


def _try_round(run: Run, plan: StagePlan, number: int, attempt: int) -> Row:
    """Ask for one round, aggregate it where it counts, write what it gave, and return its record."""
    study, section, state, started = run.study, plan.section, run.state, time.monotonic()
    chosen = draw_participants(run.there, study.round.participants, study.seed, plan.number, number, attempt)
    updates = Updates(state, plan.shared, plan.aggregator, study.round, len(run.there), study.seed)
    sent = {**state.tensors, **updates.extra}
    request = Request("train", run.name, study.hash(), plan.number, number, sent, returns=updates.returns)
    exchange = run.sites.ask(request, chosen, updates.take, study.round.close_after)
    aggregated = bool(exchange.replies) and len(exchange.replies) >= study.round.quorum
    rejected = count_rejections(state.rejected, exchange)
    diagnostics: dict[str, float] = {}
    problem = "" if aggregated else f"{len(exchange.replies)} usable replies, quorum {study.round.quorum}"
    if aggregated:
        try:
            run.state, diagnostics = updates.finish(plan.number, number)
        except RoundError as error:
            aggregated, problem = False, str(error).rstrip(".")
    run.state = replace(run.state, rejected=rejected)
    replies = dict(sorted(updates.replies.items()))
    record = {
        "stage": plan.number,
        "kind": section.kind,
        "method_or_task": section.method if isinstance(section, Pretrain) else section.task,
        "round": number,
        "attempt": attempt,
        "participants": chosen,
        **asdict(exchange),
        "reported": [site for site, count in rejected.items() if count and count % study.round.report_after == 0],
        "aggregated": aggregated,
        "problem": problem,
        "aggregate": section.aggregate,
        "diagnostics": diagnostics,
        "norms": updates.norms,
        **asdict(updates.compare()),
        "cases": {site: reply.cases for site, reply in replies.items()},
        "metrics": {site: plain_metrics(reply.metrics) for site, reply in replies.items()},
        "seconds": round(time.monotonic() - started, 3),
        "study_hash": study.hash(),
    }
    record["diverged"] = find_diverged([*run.rounds, record], plan.number)
    run.add_round(
        record,
        [
            row
            for site, reply in replies.items()
            for row in metric_rows(plan.number, number, site, reply.metrics, reply.cases)
        ],
    )
    _tell_round(record)
    return record


def _tell_round(record: Row) -> None:
    """Tell that a round was aggregated, and where its losses have diverged."""
    if not record["aggregated"]:
        return
    loss = mean_loss(record["metrics"].values())
    tell(RoundDone(record["stage"], record["kind"], record["round"], record["seconds"], loss))
    for site in record["diverged"]:
        last = record["metrics"][site]["loss"]
        tell(Said(site, f"its training loss has diverged: {last:.3g} in round {record['round']}. Lower learning_rate."))
