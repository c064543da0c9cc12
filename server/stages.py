"""The loop over stages and rounds: ask, aggregate, evaluate, record, checkpoint. It knows neither Flower nor arms."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from prostafed.common.errors import RoundError
from prostafed.common.messages import Reply, Request
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.progress import RoundDone, tell
from prostafed.common.study import Finetune, Pretrain, Study
from prostafed.common.study.network import build_stage_network
from prostafed.common.tensors import Tensors, read_tensors, select_groups
from prostafed.server.aggregation import AGGREGATORS
from prostafed.server.run_folder import Row, Standing, open_run, write_records, write_standing


class ExchangeRecord(Protocol):
    """What a round record takes from an exchange."""

    replies: list[str]
    rejections: list[dict[str, str]]
    bytes_down: int
    bytes_up: int


# (request, what to do with each admitted reply) -> record
Ask = Callable[[Request, Callable[[str, Reply], None]], ExchangeRecord]


@dataclass
class Progress:
    """A run in the making."""

    tensors: Tensors
    rounds: list[Row]
    metrics: list[Row]


def run_stages(study: Study, run: str, sites: list[str], ask: Ask, folder: Path) -> Tensors:
    """Run every round of `study` that `folder` does not hold yet and return the shared tensors; they become
    model.safetensors.

    Raises RoundError when a round has fewer replies than the quorum.
    """
    standing = open_run(folder, study)
    progress = _resume(standing)
    for stage_number, stage in enumerate(study.stage, start=1):
        done = _rounds_done(standing, stage_number, stage.rounds)
        if done == 0:
            initial = select_groups(read_tensors(build_stage_network(study, stage_number)), stage.share)
            encoder = select_groups(progress.tensors, ("encoder",))
            progress.tensors = {**initial, **encoder}
        for round_number in range(done + 1, stage.rounds + 1):
            _run_round(study, run, sites, ask, folder, progress, stage_number, round_number)
    metadata = {"study": study.canonical(), "study_hash": study.hash()}
    save_checkpoint(folder / "model.safetensors", progress.tensors, metadata)
    return progress.tensors


def _resume(standing: Standing | None) -> Progress:
    return Progress(standing.tensors, standing.rounds, standing.metrics) if standing else Progress({}, [], [])


def _rounds_done(standing: Standing | None, stage: int, rounds: int) -> int:
    if standing is None or stage > standing.stage:
        return 0
    return rounds if stage < standing.stage else standing.round


def _run_round(
    study: Study,
    run: str,
    sites: list[str],
    ask: Ask,
    folder: Path,
    progress: Progress,
    stage_number: int,
    round_number: int,
) -> None:
    stage, started = study.stage[stage_number - 1], time.monotonic()
    aggregator = AGGREGATORS[stage.aggregate]()
    state = aggregator.init(progress.tensors)
    taken: dict[str, Reply] = {}

    def on_update(site: str, reply: Reply) -> None:
        nonlocal state
        state = aggregator.add(state, reply)
        taken[site] = Reply(site, cases=reply.cases, metrics=reply.metrics)

    request = Request("train", run, study.hash(), stage_number, round_number, progress.tensors)
    exchange = ask(request, on_update)
    aggregated = len(exchange.replies) >= study.round.quorum
    diagnostics: dict[str, float] = {}
    if aggregated:
        progress.tensors, diagnostics = aggregator.finish(state, progress.tensors)
    rows = [row for site in sorted(taken) for row in _metric_rows(stage_number, round_number, taken[site])]
    if aggregated and isinstance(stage, Finetune):
        rows += _evaluate(study, run, ask, progress.tensors, stage_number, round_number)
    record = {
        "stage": stage_number,
        "kind": stage.kind,
        "method_or_task": stage.method if isinstance(stage, Pretrain) else stage.task,
        "round": round_number,
        "participants": sites,
        **asdict(exchange),  # type: ignore[call-overload]
        "aggregated": aggregated,
        "aggregate": stage.aggregate,
        "diagnostics": diagnostics,
        "cases": {site: taken[site].cases for site in sorted(taken)},
        "metrics": {site: _plain(taken[site].metrics) for site in sorted(taken)},
        "seconds": round(time.monotonic() - started, 3),
        "study_hash": study.hash(),
    }
    progress.rounds.append(record)
    progress.metrics.extend(rows)
    write_records(folder, progress.rounds, progress.metrics)
    if not aggregated:
        reasons = "; ".join(f"{entry['site']}: {entry['code']} ({entry['text']})" for entry in exchange.rejections)
        raise RoundError(
            f"Round {round_number} of stage {stage_number} had {len(exchange.replies)} usable replies, quorum "
            f"{study.round.quorum}, and was not aggregated: {reasons}. Mend that and resume the run."
        )
    write_standing(folder, study, stage_number, round_number, progress.tensors)
    losses = [reply.metrics["train/loss"] for reply in taken.values()]
    tell(RoundDone(stage_number, stage.kind, round_number, time.monotonic() - started, sum(losses) / len(losses)))


def _evaluate(study: Study, run: str, ask: Ask, tensors: Tensors, stage_number: int, round_number: int) -> list[Row]:
    stage = study.stage[stage_number - 1]
    assert isinstance(stage, Finetune)
    last = round_number == stage.rounds
    if not last and round_number % stage.evaluate_every:
        return []
    splits = ("validation", "test") if last else ("validation",)
    rows: dict[str, list[Row]] = {}

    def on_metrics(site: str, reply: Reply) -> None:
        rows[site] = _metric_rows(stage_number, round_number, reply)

    ask(Request("evaluate", run, study.hash(), stage_number, round_number, tensors, splits), on_metrics)
    return [row for site in sorted(rows) for row in rows[site]]


def _metric_rows(stage: int, round_number: int, reply: Reply) -> list[Row]:
    rows = []
    for name, value in sorted(reply.metrics.items()):
        split, _, metric = name.partition("/")
        count = int(reply.metrics.get(f"{split}/n", reply.cases))
        rows.append(
            {
                "stage": stage,
                "round": round_number,
                "site": reply.site,
                "split": split,
                "metric": metric,
                "value": value,
                "n": count,
            }
        )
    return rows


def _plain(metrics: dict[str, float]) -> dict[str, Any]:
    return {name.partition("/")[2]: value for name, value in metrics.items()}
