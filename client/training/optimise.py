"""The one training loop of a site: epochs over batches, with AdamW; pretraining and fine-tuning give it a
batch loss.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from prostafed.common.errors import DataError
from prostafed.common.seeding import derive_seed

# (indices of the batch's cases, generator for everything drawn) -> loss
BatchLoss = Callable[[list[int], Generator], Tensor]
# (steps done, steps in all, mean loss so far)
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Optimisation:
    """How a round trains."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int


@dataclass(frozen=True)
class TrainingRecord:
    """What a round of training gave: mean loss over its last epoch, cases per epoch, optimiser steps, seconds."""

    loss: float
    cases: int
    steps: int
    seconds: float


def decayed(learning_rate: float, round_number: int, rounds: int) -> float:
    """Return the learning rate of a round (1-based): a cosine from `learning_rate` to a tenth of it."""
    progress = (round_number - 1) / max(1, rounds - 1)
    return learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def optimise(
    network: nn.Module, batch_loss: BatchLoss, case_count: int, settings: Optimisation, on_step: OnStep
) -> TrainingRecord:
    """Train `network` in place and return its record; raises DataError where no case can be used or the loss is not
    finite.
    """
    if case_count == 0:
        raise DataError("The site has no case to train on in this stage. Check its labels and its split.")
    started = time.monotonic()
    network.train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    steps, total = 0, settings.epochs * math.ceil(case_count / settings.batch_size)
    losses: list[float] = []
    for epoch in range(settings.epochs):
        generator = Generator().manual_seed(derive_seed(settings.seed, epoch))
        losses = []
        for batch in split_batches(case_count, settings.batch_size, generator):
            optimiser.zero_grad(set_to_none=True)
            loss = batch_loss(batch, generator)
            if not torch.isfinite(loss):
                raise DataError(f"The loss became {loss.item()} at step {steps + 1}. Lower the stage's learning_rate.")
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), max_norm=5.0)
            optimiser.step()
            steps += 1
            losses.extend([loss.item()] * len(batch))
            on_step(steps, total, sum(losses) / len(losses))
    return TrainingRecord(sum(losses) / len(losses), case_count, steps, time.monotonic() - started)


def split_batches(count: int, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield a shuffled epoch in batches as equal as they can be: no batch of one case is left over."""
    order = torch.randperm(count, generator=generator)
    for batch in torch.tensor_split(order, math.ceil(count / batch_size)):
        yield batch.tolist()
