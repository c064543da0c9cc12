"""A round: ask, aggregate where it counts, record, checkpoint; tried again as often as the study allows."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from prostafed.common.errors import RoundError
from prostafed.common.exchange.messages import Request
from prostafed.common.secagg.fixed_point import FORMS
from prostafed.common.shell.progress import RoundDone, Said, mean_loss, tell
from prostafed.common.study import Finetune, Pretrain
from prostafed.common.tensors import Tensors
from prostafed.server.aggregation.aggregator import Aggregator
from prostafed.server.exchange.exchange import Exchange
from prostafed.server.records.ledger import Entry
from prostafed.server.records.lines import RoundLine
from prostafed.server.run.masked import Asking, ask_summed
from prostafed.server.run.metric_rows import metric_rows, of_split
from prostafed.server.run.participants import count_rejections, draw_participants
from prostafed.server.run.run import OpenRun
from prostafed.server.run.summed import SummedUpdates
from prostafed.server.run.updates import OpenUpdates, Updates

FAR = 10.0  # above the first loss, in its units: cross-entropies and contrastive losses begin below it
TIMES = 3.0  # the size of a first loss that was higher


@dataclass(frozen=True)
class ReadyStage:
    """A stage, made ready."""

    number: int
    section: Pretrain | Finetune
    initial: Tensors  # untrained, of every group that sites are sent
    shared: frozenset[str]  # names of the tensors that sites send back
    aggregator: Aggregator


def finish_round(run: OpenRun, plan: ReadyStage, number: int) -> None:
    """Try a round until it is aggregated, as often as the study allows; raises RoundError where it never is."""
    tries = 1 + (run.study.round.retries if run.study.round.below_quorum == "retry" else 0)
    for attempt in range(1, tries + 1):
        run.note_arrivals(plan.number, number)
        record = _try_round(run, plan, number, attempt)
        if record.aggregated:
            return
        reasons = "; ".join(f"{entry['site']}: {entry['code']} ({entry['text']})" for entry in record.rejections)
        text = f"{record.problem}: {reasons or 'nobody else is there'}"
        run.ledger.add(Entry("not-aggregated", plan.number, number, text=text))
        tell(Said("round", f"{number} was not aggregated: {text}"))
    raise RoundError(
        f"Round {number} of stage {plan.number} had {text}. It was not aggregated"
        f"{f' in {tries} tries' if tries > 1 else ''}. Mend that and resume the run."
    )


def _try_round(run: OpenRun, plan: ReadyStage, number: int, attempt: int) -> RoundLine:
    """Ask for one round, aggregate it where it counts, write what it gave, and return its record."""
    study, section, state, started = run.study, plan.section, run.state, time.monotonic()
    chosen = draw_participants(run.there, study.round.participants, study.seed, plan.number, number, attempt)
    updates, exchange = _ask(run, plan, number, chosen)
    aggregated = bool(exchange.replies) and len(exchange.replies) >= study.round.quorum and not updates.problem
    rejected = count_rejections(state.rejected, exchange)
    diagnostics: dict[str, float] = {}
    too_few = f"{len(exchange.replies)} usable replies, quorum {study.round.quorum}"
    problem = "" if aggregated else updates.problem or too_few
    if aggregated:
        try:
            run.state, diagnostics = updates.finish(plan.number, number)
        except RoundError as error:
            aggregated, problem = False, str(error).rstrip(".")
    run.state = replace(run.state, rejected=rejected)
    replies = dict(sorted(updates.replies.items()))
    record = RoundLine(
        stage=plan.number,
        kind=section.kind,
        method_or_task=section.method if isinstance(section, Pretrain) else section.task,
        round=number,
        attempt=attempt,
        participants=tuple(chosen),
        **asdict(exchange),
        reported=tuple(
            site
            for site, count in rejected.items()
            if count != state.rejected.get(site) and count % study.round.report_after == 0  # now, not in a round before
        ),
        aggregated=aggregated,
        problem=problem,
        aggregate=section.aggregate,
        diagnostics=diagnostics,
        **updates.describe(),
        cases={site: reply.cases for site, reply in replies.items()},
        metrics={site: of_split(reply.metrics, "train") for site, reply in replies.items()},
        seconds=round(time.monotonic() - started, 3),
        study_hash=study.hash(),
    )
    record = record.changed(diverged=tuple(find_diverged([*run.rounds, record], plan.number)))
    rows = [metric_rows(plan.number, number, site, reply.metrics, reply.cases) for site, reply in replies.items()]
    run.add_round(record, [row for each in rows for row in each])
    _tell_round(record)
    return record


def _ask(run: OpenRun, plan: ReadyStage, number: int, chosen: list[str]) -> tuple[Updates, Exchange]:
    """Ask `chosen` for a round and return their updates, seen one by one or summed, and what came of the exchange."""
    study, state = run.study, run.state
    request = Request("train", run.name, study.hash(), plan.number, number, state.tensors)
    if study.round.compress in FORMS:
        summed = SummedUpdates(state, plan.shared, plan.aggregator, study.round.compress)
        request, masked = replace(request, returns=summed.returns), study.privacy.secure_aggregation
        asking = Asking(run.sites, request, study.round.quorum, study.round.close_after, study.privacy.threshold)
        return summed, ask_summed(asking, chosen, masked, summed)
    updates = OpenUpdates(state, plan.shared, plan.aggregator, study.round, len(run.there), study.seed)
    request = replace(request, tensors={**state.tensors, **updates.extra}, returns=updates.returns)
    return updates, run.sites.ask(request, chosen, updates.take, study.round.close_after)


def _tell_round(record: RoundLine) -> None:
    """Tell that a round was aggregated, and where its losses have diverged."""
    if not record.aggregated:
        return
    loss = mean_loss(record.metrics.values())
    tell(RoundDone(record.stage, record.kind, record.round, record.seconds, loss))
    for site in record.diverged:
        last = record.metrics[site]["loss"]
        tell(Said(site, f"its training loss has diverged: {last:.3g} in round {record.round}. Lower learning_rate."))


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a site's training losses, means over the rounds of one stage, have diverged by the last of them:
    it is not finite, or further above the first than both FAR and TIMES the first's size.

    So 0.7 has diverged from 10.7 on, 40 from 160 on; a loss that falls, however low, never has. One that had blown up
    before its first round ended is not seen by this, unless it is not finite.
    """
    if not losses:
        return False
    first, last = losses[0], losses[-1]
    return not math.isfinite(last) or last - first > max(FAR, TIMES * abs(first))


def find_diverged(rounds: Sequence[RoundLine], stage: int) -> list[str]:
    """Return the sites that told a loss in the last of these records of `stage` and had diverged by it, sorted."""
    records = [row for row in rounds if row.stage == stage]
    told = records[-1].metrics if records else {}
    return [
        site
        for site in sorted(told)
        if "loss" in told[site]
        and has_diverged([row.metrics[site]["loss"] for row in records if "loss" in row.metrics.get(site, {})])
    ]
