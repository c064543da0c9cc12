"""What a stage costs at this site: the time of real optimiser steps on its own cases, what leaves, what is kept."""

import time
from dataclasses import dataclass, replace
from math import ceil

import torch

from prostafed.client.gate.admission import count_patients
from prostafed.client.gate.allowance import allow
from prostafed.client.rounds.job import Job, open_job
from prostafed.client.rounds.phases import Phase, list_phases
from prostafed.client.rounds.planning import open_noise, plan_round
from prostafed.client.rounds.starting import begin_round
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.loop import Continuation, OnStep, optimise
from prostafed.client.training.sampling import Noise, group_patients
from prostafed.common.exchange.messages import Request
from prostafed.common.shell.files import scratch_folder
from prostafed.common.study.network import build_stage_network, held_groups
from prostafed.common.tensors import count_bytes, group_of, read_tensors, select_groups

RUN = "estimate"


@dataclass(frozen=True)
class StageCost:
    """What a stage costs at a site."""

    number: int
    cases: int  # that it trains on
    patients: int  # whose cases they are
    steps: int  # of the optimiser, a round
    step_s: float  # seconds a step
    groups: tuple[str, ...]  # of tensors that leave
    values: int  # that leave after a round, before compression
    sent_bytes: int  # that leave after a round, at most
    kept_bytes: int  # on the site's disk, about

    @property
    def round_s(self) -> float:
        """Seconds a round."""
        return self.steps * self.step_s


def estimate_stage(place: Workplace, number: int) -> StageCost:
    """Return what the stage with this number (from 1) costs: each of its networks takes one step to warm up, then one
    that is timed, in one process, in the stage's last round. Nothing of it is kept. Where noise hides patients the
    steps are those of its plan, and one that takes as many patients as a step does on average is timed.

    Raises DataError where the site has no case for the stage, or a step does not fit into the GPU's memory,
    ConfigurationError where no noise keeps to the study's epsilon here.
    """
    study, stage = place.study, place.study.stage[number - 1]
    allowance, network = allow(study.canonical(), number), build_stage_network(study, number)
    tensors = read_tensors(network)
    sent = select_groups(tensors, held_groups(network, stage))
    with scratch_folder() as scratch:
        there = replace(place, site=place.site.model_copy(update={"memory": scratch, "processes": 1}))
        job = open_job(there, Request("train", RUN, study.hash(), number, stage.rounds, sent))
        noise = open_noise(job, plan_round(job))
        phases = list_phases(
            job, begin_round(job), {name: each for name, each in noise.items() if each.plan.unit == "patient"}
        )
        cases = len(job.learnt)
        steps = [
            phase.noise.plan.steps if phase.noise else phase.settings.epochs * ceil(cases / stage.batch_size)
            for phase in phases
        ]
        state = 3 if stage.keep_optimiser else 1  # of a network, with its optimiser's two moments or without
        copies = len({id(phase.network) for phase in phases}) * (2 * state + 3)  # of two rounds, and one in the making
        seconds = sum(count * _time_step(job, phase) for count, phase in zip(steps, phases, strict=True))
    return StageCost(
        number,
        cases,
        count_patients(job.learnt),
        sum(steps),
        seconds / max(1, sum(steps)),
        tuple(sorted({group_of(name) for name in allowance.update})),
        sum(array.size for array in allowance.update.values()),
        allowance.payload.most_bytes,
        copies * count_bytes(tensors) + allowance.payload.most_bytes,
    )


class _EnoughError(Exception):
    """The second step was taken."""


def _time_step(job: Job, phase: Phase) -> float:
    ended: list[float] = []

    def on_step(*_: float) -> None:
        if job.workplace.device.type == "cuda":
            torch.cuda.synchronize(job.workplace.device)
        ended.append(time.monotonic())
        if len(ended) == 2:
            raise _EnoughError

    try:
        if phase.noise:
            _take_private_steps(job, phase, phase.noise, on_step)
        else:
            twice, feed = replace(phase.settings, epochs=2), job.workplace.feed(job.chosen)
            optimise(phase.network, job.objective, feed, twice, Continuation(job.machine, phase.adjust), on_step)
    except _EnoughError:
        return ended[1] - ended[0]
    raise AssertionError("two epochs have two steps")


def _take_private_steps(job: Job, phase: Phase, noise: Noise, on_step: OnStep) -> None:
    """Take two steps, each with every one of so many patients as a step has on average."""
    from prostafed.client.training.private import optimise_privately  # its library takes seconds to load

    feed = job.workplace.feed(job.chosen).choose(job.objective.usable)
    some = [feed.chosen[cases[0]] for cases in group_patients(feed)[: max(1, round(noise.plan.expected))]]
    every = replace(noise, plan=replace(noise.plan, units=len(some), rate=1.0, steps=2))
    joining = (Continuation(job.machine, phase.adjust), on_step)
    optimise_privately(phase.network, job.objective, job.workplace.feed(some), phase.settings, every, joining)
