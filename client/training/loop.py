"""The one training loop of a site: epochs over batches; pretraining and fine-tuning give it a batch loss.

Everything random derives from the round's seed, and that from (study seed, stage, round, site): no state of a random
generator is carried from round to round. Inside a round the generator is part of the state that can be handed out.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, nn

from prostafed.client.training.feed import split_batches
from prostafed.client.training.machine import Machine, compile_groups
from prostafed.client.training.optimisers import (
    OptimiserState,
    ParameterGroup,
    load_state,
    make_optimiser,
    read_rates,
)
from prostafed.client.training.step import Adjust, BatchLoss, Stepper
from prostafed.common.errors import DataError, DivergedError
from prostafed.common.seeding import derive_seed

# (steps done, steps in all, mean loss so far)
OnStep = Callable[[int, int, float], None]
# Of a round in the making, as torch.save and torch.load(weights_only=True) take it. It holds the live tensors: whoever
# is handed one writes it before going on.
State = dict[str, Any]


@dataclass(frozen=True)
class Optimisation:
    """How a round trains."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    optimiser: Literal["adamw", "sgd"] = "adamw"  # sgd without momentum


@dataclass(frozen=True)
class Continuation:
    """What may join a round of training."""

    machine: Machine = field(default_factory=Machine)
    adjust: Adjust | None = None  # what a rule adds to the gradients
    optimiser: OptimiserState | None = None  # of the round before; None starts anew
    scaler: Mapping[str, float] = field(default_factory=dict)  # float16's loss scale after the round before
    start: State | None = None  # a state of this round, to go on from
    on_state: Callable[[State], None] | None = None
    every_s: float = math.inf  # seconds from one state handed out to the next


PLAIN = Continuation()
# Every loss here begins at a few at most: a hundred times that is no rough patch, and weights of such a round would
# spoil the mean of all sites.
DIVERGED = 100.0


@dataclass(frozen=True)
class TrainingRecord:
    """What a round of training gave: mean loss over its last epoch, cases per epoch, optimiser steps, seconds; learning
    rate by name of each parameter that was open to training, the optimiser's state, and that of float16's loss scale.
    """

    loss: float
    cases: int
    steps: int
    seconds: float
    rates: Mapping[str, float] = field(default_factory=dict)
    optimiser: OptimiserState = field(default_factory=dict, compare=False, repr=False)
    scaler: Mapping[str, float] = field(default_factory=dict)


@dataclass
class _LoopState:
    """How far a round is: epochs finished, batches done of the next, steps and seconds in all, losses of the epoch."""

    epoch: int = 0
    done: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # one per case
    first: float | None = None  # loss of the first step


def decayed(learning_rate: float, round_number: int, rounds: int) -> float:
    """Return the learning rate of a round (1-based): a cosine from `learning_rate` to a tenth of it."""
    progress = (round_number - 1) / max(1, rounds - 1)
    return learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def optimise(
    network: nn.Module,
    batch_loss: BatchLoss,
    case_count: int,
    settings: Optimisation,
    on_step: OnStep,
    groups: Sequence[ParameterGroup] | None = None,
    divisible: bool = False,
    continuation: Continuation = PLAIN,
) -> TrainingRecord:
    """Train `network` in place and return its record.

    Raises DataError where no case can be used or a batch does not fit into the GPU's memory, DivergedError where the
    loss is not finite, or an epoch's mean is more than DIVERGED times the larger of 1 and that of the first step.

    `groups`: parameters with learning rates of their own; by default all of the network's with that of `settings`.
    `divisible`: the loss is (nearly) a mean over cases, so that a batch may pass in parts whose gradients are added up.
    A round that goes on from a state ends, on a CPU, with the bytes of one that was never interrupted.
    """
    if case_count == 0:
        raise DataError("The site has no case to train on in this stage. Check its labels and its split.")
    network.train()
    if continuation.machine.compile:
        compile_groups(network)
    optimiser = make_optimiser(network, settings.optimiser, settings.learning_rate, settings.weight_decay, groups)
    stepper = Stepper(
        network,
        optimiser,
        continuation.machine,
        settings.batch_size,
        divisible,
        continuation.adjust,
        continuation.scaler,
    )
    progress, generator = _LoopState(), Generator()
    if continuation.optimiser:
        load_state(optimiser, continuation.optimiser)
    if continuation.start:
        network.load_state_dict(continuation.start["network"])
        load_state(optimiser, continuation.start["optimiser"])
        stepper.resume(continuation.start["stepper"])
        progress = _LoopState(**continuation.start["progress"])
    ticked = handed_out = time.monotonic()
    total = settings.epochs * math.ceil(case_count / settings.batch_size)
    while progress.epoch < settings.epochs:
        generator.manual_seed(derive_seed(settings.seed, progress.epoch))
        batches = list(split_batches(case_count, settings.batch_size, generator))
        if progress.done and continuation.start:
            generator.set_state(continuation.start["generator"])
        else:
            progress.losses = []
        for batch in batches[progress.done :]:
            loss = stepper.step(batch, batch_loss, generator)
            if not math.isfinite(loss):
                raise DivergedError(
                    f"The loss became {loss} at step {progress.steps + 1}. Lower the stage's learning_rate."
                )
            progress.first = loss if progress.first is None else progress.first
            progress.steps, progress.done = progress.steps + 1, progress.done + 1
            progress.losses += [loss] * len(batch)
            on_step(progress.steps, total, sum(progress.losses) / len(progress.losses))
            now = time.monotonic()
            progress.seconds, ticked = progress.seconds + now - ticked, now
            if continuation.on_state is not None and now - handed_out >= continuation.every_s:
                continuation.on_state(_describe(network, optimiser, stepper, generator, progress))
                handed_out = time.monotonic()
        _check_loss(progress)
        progress.epoch, progress.done = progress.epoch + 1, 0
    loss = sum(progress.losses) / len(progress.losses)
    rates, state = read_rates(network, optimiser), optimiser.state_dict()["state"]
    return TrainingRecord(loss, case_count, progress.steps, progress.seconds, rates, state, stepper.state()["scaler"])


def _check_loss(progress: _LoopState) -> None:
    mean, first = sum(progress.losses) / len(progress.losses), progress.first or 0.0
    if mean > DIVERGED * max(1.0, first):
        raise DivergedError(
            f"The loss rose from {first:.3g} at the round's first step to {mean:.3g} in epoch {progress.epoch + 1}: "
            "training diverged, and nothing is sent. Lower the stage's learning_rate."
        )


def _describe(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    stepper: Stepper,
    generator: Generator,
    progress: _LoopState,
) -> State:
    return {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict()["state"],
        "stepper": stepper.state(),
        "generator": generator.get_state(),
        "progress": asdict(progress),
    }
