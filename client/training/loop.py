"""The one training loop of a site: epochs over the batches of a feed, towards an objective.

Everything random derives from the round's seed, and that from (study seed, stage, round, site): the order of an epoch
from its number, what is drawn for a batch from epoch and step. No state of a random generator is carried anywhere.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from torch import Generator, nn

from prostafed.client.training.feed import Feed, plan_epoch
from prostafed.client.training.machine import Machine, compile_groups
from prostafed.client.training.objective import Objective
from prostafed.client.training.optimisers import Optimisation, OptimiserState, make_optimiser, read_rates
from prostafed.client.training.step import Adjust, PartLoss, Stepper
from prostafed.common.errors import DataError, DivergedError
from prostafed.common.seeding import derive_seed
from prostafed.common.shell.leaving import Interrupted, is_asked_to_leave, until_step

# (steps done, steps in all, mean loss so far)
OnStep = Callable[[int, int, float], None]
# Of a round in the making, as torch.save and torch.load(weights_only=True) take it. It holds the live tensors: whoever
# is handed one writes it before going on.
State = dict[str, Any]


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
    scores: tuple[float, ...] = ()  # of the canaries of private training: see private.py


@dataclass
class _Progress:
    """How far a round is: epochs finished, batches done of the next, steps and seconds in all, losses of the epoch."""

    epoch: int = 0
    done: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # one per case
    first: float | None = None  # loss of the first step

    @property
    def mean(self) -> float:
        """The mean loss of the epoch so far."""
        return sum(self.losses) / len(self.losses)

    def count(self, loss: float, cases: int) -> None:
        """Count a step; raises DivergedError for a loss that is not finite."""
        if not math.isfinite(loss):
            raise DivergedError(f"The loss became {loss} at step {self.steps + 1}. Lower the stage's learning_rate.")
        self.first = loss if self.first is None else self.first
        self.steps, self.done = self.steps + 1, self.done + 1
        self.losses += [loss] * cases

    def close_epoch(self) -> None:
        """Go on to the next epoch; raises DivergedError where the mean loss of this one ran away."""
        first = self.first or 0.0
        if self.mean > DIVERGED * max(1.0, first):
            raise DivergedError(
                f"The loss rose from {first:.3g} at the round's first step to {self.mean:.3g} in epoch "
                f"{self.epoch + 1}: training diverged, and nothing is sent. Lower the stage's learning_rate."
            )
        self.epoch, self.done = self.epoch + 1, 0


def decayed(learning_rate: float, round_number: int, rounds: int) -> float:
    """Return the learning rate of a round (1-based): a cosine from `learning_rate` to a tenth of it."""
    progress = (round_number - 1) / max(1, rounds - 1)
    return learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def optimise(
    network: nn.Module,
    objective: Objective,
    feed: Feed,
    settings: Optimisation,
    continuation: Continuation = PLAIN,
    on_step: OnStep = lambda *_: None,
) -> TrainingRecord:
    """Train `network` in place on the cases of `feed` that the objective can use, and return its record.

    Raises DataError where no case can be used or a batch does not fit into the GPU's memory, DivergedError where the
    loss is not finite, or an epoch's mean is more than DIVERGED times the larger of 1 and that of the first step.

    A round that goes on from a state ends, on a CPU, with the bytes of one that was never interrupted. Where the
    process is asked to leave, a state is handed out after the step, and Interrupted raised.
    """
    feed = feed.choose(objective.usable)
    if not feed.chosen:
        raise DataError("The site has no case to train on in this stage. Check its labels and its split.")
    network.to(feed.device)
    stepper = _begin(network, objective.divisible, settings, continuation)
    progress = _Progress(**continuation.start["progress"]) if continuation.start else _Progress()
    count = len(feed.chosen)
    with handing_out(continuation) as after_step:
        while progress.epoch < settings.epochs:
            if not progress.done:
                progress.losses = []
            plan = plan_epoch(count, settings.batch_size, derive_seed(settings.seed, progress.epoch))
            for positions, seed in plan[progress.done :]:
                began = time.monotonic()
                loss = stepper.step(len(positions), partial(_draw, network, objective, feed, positions, seed))
                progress.count(loss, len(positions))
                objective.after_step(network)
                on_step(progress.steps, settings.epochs * len(plan), progress.mean)
                progress.seconds += time.monotonic() - began
                after_step(lambda: {**stepper.state(), "progress": asdict(progress)})
            progress.close_epoch()
    rates, state = read_rates(network, stepper.optimiser), stepper.state()
    return TrainingRecord(
        progress.mean, count, progress.steps, progress.seconds, rates, state["optimiser"], state["scaler"]
    )


@contextmanager
def handing_out(continuation: Continuation) -> Iterator[Callable[[Callable[[], State]], None]]:
    """Yield what is called after each step: it hands out a state where it is time to; where the process is asked to
    leave, it raises Interrupted after that.
    """
    keep, handed_out = continuation.on_state, time.monotonic()

    def after_step(state: Callable[[], State]) -> None:
        nonlocal handed_out
        leaving = is_asked_to_leave()
        if keep is not None and (leaving or time.monotonic() - handed_out >= continuation.every_s):
            keep(state())
            handed_out = time.monotonic()
        if leaving:
            raise Interrupted

    with until_step() if keep else nullcontext():
        yield after_step


def _begin(network: nn.Module, divisible: bool, settings: Optimisation, continuation: Continuation) -> Stepper:
    """Return what takes the steps, at the round's first one or where a state left it."""
    network.train()
    if continuation.machine.compile:
        compile_groups(network)
    stepper = Stepper(network, make_optimiser(network, settings), continuation.machine, divisible, continuation.adjust)
    stepper.resume(continuation.start or {"optimiser": continuation.optimiser, "scaler": continuation.scaler})
    return stepper


def _draw(network: nn.Module, objective: Objective, feed: Feed, positions: list[int], seed: int) -> PartLoss:
    """Read a batch, draw for it, and return the loss of any part of it."""
    generator = Generator().manual_seed(seed)
    return objective.batch_loss(network, feed.draw(positions, objective.masks, generator), generator)
