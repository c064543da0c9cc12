"""The loop over stages and rounds: ask, aggregate, evaluate, record, checkpoint. It knows neither Flower nor arms."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from prostafed.common.errors import RoundError
from prostafed.common.messages import Request
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.progress import RoundDone, Said, tell
from prostafed.common.study import Finetune, Pretrain, Study
from prostafed.common.study.network import build_stage_network, held_groups, shared_names
from prostafed.common.tensors import Tensors, hash_tensors, read_tensors, select_groups
from prostafed.server.aggregation import build_aggregator
from prostafed.server.aggregation.aggregator import Aggregator
from prostafed.server.checkpoints import Standing, read_standing, write_standing
from prostafed.server.evaluation import evaluate, metric_rows, plain_metrics
from prostafed.server.ledger import Entry, Ledger
from prostafed.server.participants import count_rejections, draw_participants
from prostafed.server.rounds import Exchange, OnReply
from prostafed.server.run_folder import Row, open_run, read_records, write_cohorts, write_pooled, write_records
from prostafed.server.trackers import Trackers
from prostafed.server.updates import Updates


class Sites(Protocol):
    """The sites of a run: `rounds.Roll` over a grid, or a test's."""

    @property
    def cohorts(self) -> dict[str, dict[str, float]]:
        """What sites chose to tell of their patients: site -> "attribute/value" -> cases."""

    def present(self) -> list[str]:
        """Return the names of the sites that are there now, sorted."""

    def ask(self, request: Request, sites: Sequence[str], on_reply: OnReply, enough: int = 0) -> Exchange:
        """Ask some of them; each admitted reply goes to `on_reply` as it arrives."""


@dataclass(frozen=True)
class StagePlan:
    """A stage, made ready."""

    number: int
    section: Pretrain | Finetune
    initial: Tensors  # untrained, of every group that sites are sent
    shared: frozenset[str]  # names of the tensors that sites send back
    aggregator: Aggregator


class Run:
    """A run of `study` into `folder`, begun or taken up where it stands."""

    def __init__(self, study: Study, name: str, sites: Sites, folder: Path) -> None:
        """Raise CheckpointError where `folder` holds another study's run or a damaged one."""
        open_run(folder, study)
        self.study, self.name, self.sites, self.folder = study, name, sites, folder
        self.ledger = Ledger(folder, study.hash())
        self.standing = read_standing(folder, study.hash(), self.ledger.length)
        self.rounds, self.metrics = read_records(folder, self.standing.stage, self.standing.round)
        self.there = sites.present()
        self.trackers = Trackers(folder, name, study)
        write_cohorts(folder, sites.cohorts)
        stage, number, tensors = self.standing.stage, self.standing.round, self.standing.tensors
        event = "resumed" if self.ledger.length else "started"
        text, model = f"sites: {', '.join(self.there)}", hash_tensors(tensors) if tensors else ""
        self.ledger.add(Entry(event, stage, number, text=text, model=model))

    def note_arrivals(self, stage: int, number: int) -> None:
        """Ask who is there now, and enter in the ledger who came and who went."""
        before, self.there = set(self.there), self.sites.present()
        for event, moved in (("joined", set(self.there) - before), ("left", before - set(self.there))):
            for site in sorted(moved):
                self.ledger.add(Entry(event, stage, number, site))
                tell(Said(site, event))
        write_cohorts(self.folder, self.sites.cohorts)


def run_stages(
    study: Study, name: str, sites: Sites, folder: Path, load_initial: Callable[[], Tensors] = dict
) -> Tensors:
    """Run every round of `study` that `folder` does not hold yet and return the shared tensors; they become
    model.safetensors. `load_initial` gives what the first stage's encoder starts from; it is asked in a new run only.

    Raises RoundError when a round stays below the quorum and the study does not say to try again, or not any more.
    """
    run = Run(study, name, sites, folder)
    for number, section in enumerate(study.stage, start=1):
        done = section.rounds if number < run.standing.stage else 0
        if number == run.standing.stage:
            done = run.standing.round
        if done == section.rounds:
            continue
        plan = _plan_stage(study, number)
        if done == 0:
            encoder = select_groups(run.standing.tensors or load_initial(), ("encoder",))
            run.standing = Standing(number, 0, {**plan.initial, **encoder}, rejected=run.standing.rejected)
        for round_number in range(done + 1, section.rounds + 1):
            _finish_round(run, plan, round_number)
    run.trackers.close()
    metadata = {"study": study.canonical(), "study_hash": study.hash()}
    save_checkpoint(folder / "model.safetensors", run.standing.tensors, metadata)
    run.ledger.add(Entry("finished", run.standing.stage, run.standing.round, model=hash_tensors(run.standing.tensors)))
    return run.standing.tensors


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
    """Ask for one round, aggregate and evaluate it where it counts, write what it gave, and return its record."""
    study, section, standing, started = run.study, plan.section, run.standing, time.monotonic()
    chosen = draw_participants(run.there, study.round.participants, study.seed, plan.number, number, attempt)
    updates = Updates(standing, plan.shared, plan.aggregator, study.round, len(run.there), study.seed)
    request = Request("train", run.name, study.hash(), plan.number, number, {**standing.tensors, **updates.extra})
    exchange = run.sites.ask(request, chosen, updates.take, study.round.enough)
    aggregated = bool(exchange.replies) and len(exchange.replies) >= study.round.quorum
    rejected = count_rejections(standing.rejected, exchange)
    reported = [site for site, count in rejected.items() if count and count % study.round.report_after == 0]
    diagnostics: dict[str, float] = {}
    problem = "" if aggregated else f"{len(exchange.replies)} usable replies, quorum {study.round.quorum}"
    rows = [row for _, reply in sorted(updates.replies.items()) for row in metric_rows(plan.number, number, reply)]
    if aggregated:
        try:
            run.standing, diagnostics = updates.finish(plan.number, number)
        except RoundError as error:
            aggregated, problem = False, str(error).rstrip(".")
    if aggregated and isinstance(section, Finetune):
        found = evaluate(study, run.name, run.sites, run.there, run.standing.tensors, plan.number, number)
        rows += found.rows
        if found.pooled:
            write_pooled(run.folder, plan.number, found.pooled)
    run.standing = replace(run.standing, rejected=rejected)
    record = {
        "stage": plan.number,
        "kind": section.kind,
        "method_or_task": section.method if isinstance(section, Pretrain) else section.task,
        "round": number,
        "attempt": attempt,
        "participants": chosen,
        **asdict(exchange),
        "reported": reported,
        "aggregated": aggregated,
        "problem": problem,
        "aggregate": section.aggregate,
        "diagnostics": diagnostics,
        "norms": updates.norms,
        **asdict(updates.compare()),
        "cases": {site: reply.cases for site, reply in sorted(updates.replies.items())},
        "metrics": {site: plain_metrics(reply) for site, reply in sorted(updates.replies.items())},
        "seconds": round(time.monotonic() - started, 3),
        "study_hash": study.hash(),
    }
    _write(run, record, rows)
    if aggregated:
        losses = [reply.metrics.get("train/loss", 0.0) for reply in updates.replies.values()]
        tell(RoundDone(plan.number, section.kind, number, time.monotonic() - started, sum(losses) / len(losses)))
    return record


def _write(run: Run, record: Row, rows: list[Row]) -> None:
    """Write a round to disk: its records, then, where it counts, the checkpoint that says so, then the ledger."""
    stage, number = record["stage"], record["round"]
    run.rounds.append(record)
    run.metrics.extend(rows)
    write_records(run.folder, run.rounds, run.metrics)
    for site in record["reported"]:
        last = next(entry for entry in record["rejections"] if entry["site"] == site)
        text = f"rejected {run.standing.rejected[site]} times in a row, last {last['code']}: {last['text']}"
        run.ledger.add(Entry("reported", stage, number, site, text))
        tell(Said(site, text))
    if record["aggregated"]:
        run.trackers.log_round(record, rows)
        write_standing(run.folder, run.standing, run.study.hash(), run.ledger.length)
        run.ledger.add(Entry("round", stage, number, model=hash_tensors(run.standing.tensors)))
