"""One round of training at a site: its phases, from where an interruption left them; what is kept, what is sent."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import distributed

from prostafed.client.gate.release import check_update, list_payload, list_update, release
from prostafed.client.gate.telling import list_told_splits
from prostafed.client.rounds.memory import Memory, find_partial, keep_answer, remember, save_partial, tidy
from prostafed.client.rounds.phases import SHARED, choose_cases, list_phases, run_phase
from prostafed.client.rounds.starting import Start, begin_round
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.loop import Continuation, TrainingRecord
from prostafed.client.training.machine import Machine
from prostafed.client.training.optimisers import pack_states, unpack_state
from prostafed.client.training.rules.rule import RoundResult
from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.exchange.compression import encode
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.metrics.cohort import CSPCA, count_patients
from prostafed.common.metrics.small_cells import is_small
from prostafed.common.metrics.summary import LOSS, WITHHELD
from prostafed.common.study import Finetune
from prostafed.common.tasks import build_task
from prostafed.common.tensors import read_tensors

TAUGHT_CSPCA = ("classify", "lesion")  # tasks whose targets tell who has csPCa


def train_round(workplace: Workplace, request: Request, folder: Path, digest: str, machine: Machine) -> Reply:
    """Train one round and return its answer; the first process keeps it in the stage's `folder`, and before it what
    does not travel.

    `digest` is that of the tensors sent: an interrupted round goes on only where it was asked for with the same ones.
    """
    start = begin_round(workplace, request)
    records = _train_phases(workplace, request, start, folder, digest, machine)
    reply, memory = _conclude(workplace, request, start, records)
    if machine.rank == 0:
        remember(folder, request.round, memory, request.study_hash)
        keep_answer(folder, reply, digest)
        tidy(folder)
    return reply


def _train_phases(
    workplace: Workplace, request: Request, start: Start, folder: Path, digest: str, machine: Machine
) -> dict[str, TrainingRecord]:
    stage, chosen = workplace.study.stage[request.stage - 1], choose_cases(workplace, request)
    phases = list_phases(workplace, request, start)
    asked = {"digest": digest, "study_hash": request.study_hash, "cases": len(chosen)}
    partial = find_partial(folder, request.round) or {}
    if {key: partial.get(key) for key in asked} != asked:
        partial = {}
    if machine.ranks > 1:
        distributed.barrier()  # all have read before one writes
    done: dict[str, Any] = partial.get("done", {})
    records: dict[str, TrainingRecord] = {}
    every_s = 60 * workplace.site.checkpoint_minutes

    def save(phase: str, state: Mapping[str, Any] | None) -> None:
        if every_s and machine.rank == 0:
            save_partial(folder, request.round, {**asked, "done": done, "phase": phase, "state": state})

    for phase in phases:
        if phase.name in done:
            phase.network.load_state_dict(done[phase.name]["network"])
            records[phase.name] = TrainingRecord(**done[phase.name]["record"])
            continue
        continuation = Continuation(
            machine=machine,
            adjust=phase.adjust,
            optimiser=unpack_state(start.kept.optimiser, phase.name) if stage.keep_optimiser else None,
            scaler={
                key.removeprefix(f"{phase.name}/"): array.item()
                for key, array in start.kept.scaler.items()
                if key.startswith(f"{phase.name}/")
            },
            start=partial.get("state") if partial.get("phase") == phase.name else None,
            on_state=functools.partial(save, phase.name) if every_s else None,
            every_s=every_s,
        )
        records[phase.name] = run_phase(workplace, request, phase, chosen, continuation)
        if phase is not phases[-1]:
            done[phase.name] = {
                "network": {name: tensor.cpu().clone() for name, tensor in phase.network.state_dict().items()},
                "record": vars(records[phase.name]),
            }
            save("", None)
    return records


def _conclude(
    workplace: Workplace, request: Request, start: Start, records: Mapping[str, TrainingRecord]
) -> tuple[Reply, Memory]:
    """Let the rule conclude, compress, pass the gate; return the answer and what is to be kept."""
    stage, section, record = workplace.study.stage[request.stage - 1], workplace.study.round, records[SHARED]
    ended = read_tensors(start.network.to("cpu"))
    update = {name: ended[name] for name in start.shared}
    outcome = start.rule.end(start.given, RoundResult(start.begun, update, record.steps, record.rates))
    sent = {**update, **outcome.sent}
    layout = list_update(ended, start.shared, AGGREGATORS[stage.aggregate].rule)
    check_update(sent, layout)
    baseline = {**{name: np.zeros_like(array) for name, array in outcome.sent.items()}, **start.given.extra}
    payload, residual = encode(
        {**start.given.shared, **baseline}, sent, section.compress, section.top_fraction, start.kept.residual
    )
    metrics = {"train/steps": float(record.steps), **_tell_loss(workplace, request, record.loss)}
    if any(workplace.cases.records[index].generated for index in workplace.splits["train"]):
        metrics["train/generated"] = 1.0  # said wherever their results go: no report may take them for patients
    reply = Reply(workplace.site.name, request.study_hash, request.stage, request.round, record.cases, payload, metrics)
    memory = Memory(
        tensors={name: array for name, array in ended.items() if name not in update},
        personal=read_tensors(start.personal.to("cpu")) if start.personal is not None else {},
        rule=outcome.kept,
        optimiser=pack_states({name: each.optimiser for name, each in records.items()}) if stage.keep_optimiser else {},
        residual=residual,
        scaler={
            f"{name}/{key}": np.array(value) for name, each in records.items() for key, value in each.scaler.items()
        },
    )
    return release(reply, list_payload(layout, section.compress)), memory


def _tell_loss(workplace: Workplace, request: Request, loss: float) -> dict[str, float]:
    """Return the mean loss, or, of too few patients, that it is withheld; so it is where few of them have csPCa, or
    few have none: of a network that always says the same the loss counts them.
    """
    site, records, chosen = workplace.site, workplace.cases.records, choose_cases(workplace, request)
    counts, told = [len({records[index].patient_id for index in chosen})], True
    stage = workplace.study.stage[request.stage - 1]
    if isinstance(stage, Finetune) and stage.task in TAUGHT_CSPCA:
        counts += count_patients([records[index] for index in chosen], CSPCA).values()
        usable = build_task(stage.task).usable
        if site.share_cohort:
            told = "train" in list_told_splits(records, workplace.splits, usable, site.minimum_cell)
    if is_small(counts, site.minimum_cell) or not told:
        return {f"train/{WITHHELD}/{LOSS}": float(site.minimum_cell)}
    return {f"train/{LOSS}": loss}
