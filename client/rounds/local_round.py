"""One round of training at a site: its phases, from where an interruption left them; what is kept, what is sent."""

import functools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import distributed

from prostafed.client.gate.allowance import allow
from prostafed.client.gate.canaries import keep_scores
from prostafed.client.gate.noise import add_noise
from prostafed.client.gate.release import check_answer, check_update
from prostafed.client.gate.telling import describe_loss, list_told_splits
from prostafed.client.rounds.job import Job
from prostafed.client.rounds.memory import Memory, find_partial, keep_answer, remember, save_partial, tidy
from prostafed.client.rounds.phases import NO_NOISE, Phase, list_phases, run_phase
from prostafed.client.rounds.planning import PERSONAL, SHARED
from prostafed.client.rounds.starting import Start, begin_round
from prostafed.client.training.loop import Continuation, State, TrainingRecord
from prostafed.client.training.machine import Machine
from prostafed.client.training.optimisers import pack_states, unpack_state
from prostafed.client.training.rules.rule import RoundResult
from prostafed.client.training.sampling import Noise
from prostafed.common.errors import DivergedError
from prostafed.common.exchange.compression import encode
from prostafed.common.exchange.messages import Reply
from prostafed.common.metrics.summary import LOSS, WITHHELD
from prostafed.common.privacy.plan import write_plan
from prostafed.common.secagg.fixed_point import FORMS
from prostafed.common.tensors import read_tensors

logger = logging.getLogger("prostafed.site")

FORM = 3  # of a round in the making: one that another release began is begun anew


def train_round(job: Job, machine: Machine, noise: Mapping[str, Noise] = NO_NOISE) -> Reply:
    """Train one round and return its answer; the first process keeps it in the stage's folder, and before it what does
    not travel. An interrupted round goes on only where it was asked for with the same tensors.

    `noise` is by phase; that of a site is for its update.
    """
    start = begin_round(job)
    records = _train_phases(job, start, machine, noise)
    reply, memory = _conclude(job, start, records, noise)
    if machine.rank == 0:
        if scores := [each.scores for each in records.values() if each.scores]:
            attempt = f"{reply.stage}/{reply.round}/{job.digest}"
            keep_scores(
                job.workplace.folder, job.request.run, attempt, [sum(each) for each in zip(*scores, strict=True)]
            )
        remember(job.folder, reply.round, memory, reply.study_hash)
        keep_answer(job.folder, reply, job.key)
        tidy(job.folder)
    return reply


def _train_phases(job: Job, start: Start, machine: Machine, noise: Mapping[str, Noise]) -> dict[str, TrainingRecord]:
    asked: dict[str, Any] = {
        "digest": job.key,
        "study_hash": job.request.study_hash,
        "cases": len(job.chosen),
        "form": FORM,
    }
    asked["noise"] = {phase: write_plan(each.plan) for phase, each in noise.items()}
    partial = find_partial(job.folder, job.request.round) or {}
    if {key: partial.get(key) for key in asked} != asked:
        partial = {}
    if machine.ranks > 1:
        distributed.barrier()  # all have read before one writes
    done: dict[str, Any] = partial.get("done", {})
    records: dict[str, TrainingRecord] = {}
    every_s = 60 * job.workplace.site.checkpoint_minutes

    def save(phase: str, state: State | None) -> None:
        if every_s and machine.rank == 0:
            save_partial(job.folder, job.request.round, {**asked, "done": done, "phase": phase, "state": state})

    phases = list_phases(job, start, {phase: each for phase, each in noise.items() if each.plan.unit == "patient"})
    for phase in phases:
        if phase.name in done:
            phase.network.load_state_dict(done[phase.name]["network"])
            records[phase.name] = TrainingRecord(**done[phase.name]["record"])
            continue
        continuation = Continuation(
            machine=machine,
            adjust=phase.adjust,
            optimiser=unpack_state(start.kept.optimiser, phase.name) if job.stage.keep_optimiser else None,
            scaler={
                key.removeprefix(f"{phase.name}/"): array.item()
                for key, array in start.kept.scaler.items()
                if key.startswith(f"{phase.name}/")
            },
            start=partial.get("state") if partial.get("phase") == phase.name else None,
            on_state=functools.partial(save, phase.name) if every_s else None,
            every_s=every_s,
        )
        records[phase.name] = _run(job, phase, continuation, hides=bool(noise))
        if phase is not phases[-1]:
            done[phase.name] = {
                "network": {name: tensor.cpu().clone() for name, tensor in phase.network.state_dict().items()},
                "record": vars(records[phase.name]),
            }
            save("", None)
    return records


def _run(job: Job, phase: Phase, continuation: Continuation, *, hides: bool) -> TrainingRecord:
    """Run a phase. Where the study `hides` patients, nothing that leaves depends on how a personal network fares: one
    that diverges stays as it was.
    """
    if not hides or phase.name != PERSONAL:
        return run_phase(job, phase, continuation)
    before = {name: tensor.clone() for name, tensor in phase.network.state_dict().items()}
    try:
        return run_phase(job, phase, continuation)
    except DivergedError as error:
        logger.warning("The site's own network stays as it was before the round. %s", error)
        phase.network.load_state_dict(before)
        return TrainingRecord(0.0, len(job.chosen), 0, 0.0)


def _conclude(
    job: Job, start: Start, records: Mapping[str, TrainingRecord], noise: Mapping[str, Noise]
) -> tuple[Reply, Memory]:
    """Let the rule conclude, compress; return the answer, held against what may leave, and what is to be kept."""
    place, request, stage, record = job.workplace, job.request, job.stage, records[SHARED]
    allowance, section = allow(place.study.canonical(), request.stage), place.study.round
    ended = read_tensors(start.network.to("cpu"))
    update = {name: ended[name] for name in start.shared}
    outcome = start.rule.end(start.given, RoundResult(start.begun, update, record.steps, record.rates))
    if (of_site := noise.get(SHARED)) is not None and of_site.plan.unit == "site":
        update = add_noise(update, start.given.shared, of_site.plan, of_site.sources(0))
    sent = {**update, **outcome.sent}
    check_update(sent, allowance.update)
    baseline = {**{name: np.zeros_like(array) for name, array in outcome.sent.items()}, **start.given.extra}
    rule = "none" if section.compress in FORMS else section.compress  # whole numbers are made of it as it leaves
    payload, residual = encode(
        {**start.given.shared, **baseline}, sent, rule, section.top_fraction, start.kept.residual
    )
    metrics = {"train/steps": float(record.steps), **_tell_loss(job, record.loss)}
    if any(place.cases.records[index].generated for index in place.splits["train"]):
        metrics["train/generated"] = 1.0  # said wherever their results go: no report may take them for patients
    reply = Reply(place.site.name, request.study_hash, request.stage, request.round, record.cases, payload, metrics)
    check_answer(reply, allowance.kept, place.bounds(request))  # what may not leave is not kept either
    memory = Memory(
        tensors={name: array for name, array in ended.items() if name not in start.shared},
        personal=read_tensors(start.personal.to("cpu")) if start.personal is not None else {},
        rule=outcome.kept,
        optimiser=pack_states({name: each.optimiser for name, each in records.items()}) if stage.keep_optimiser else {},
        residual=residual,
        scaler={
            f"{name}/{key}": np.array(value) for name, each in records.items() for key, value in each.scaler.items()
        },
    )
    return reply, memory


def _tell_loss(job: Job, loss: float) -> dict[str, float]:
    """Return what may be told of the mean loss."""
    place, site, objective, told = job.workplace, job.workplace.site, job.objective, True
    if place.study.privacy.unit != "none":
        return {f"train/{WITHHELD}/{LOSS}": float(site.minimum_cell)}  # no noise is added to it
    records = place.cases.records
    if objective.teaches_cspca and site.share_cohort:
        told = "train" in list_told_splits(records, place.splits, objective.usable, site.minimum_cell)
    learnt = [records[index] for index in job.chosen]
    of_loss = describe_loss(loss, learnt, objective.counted, site.minimum_cell, diagnoses=told)
    return {f"train/{name}": value for name, value in of_loss.items()}
