"""The one training loop of a site: epochs over batches, with AdamW; pretraining and fine-tuning give it a
batch loss.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from prostafed.common.errors import DataError
from prostafed.common.seeding import derive_seed

# (indices of the batch's cases, generator for everything drawn) -> loss
BatchLoss = Callable[[list[int], Generator], Tensor]
# (steps done, steps in all, mean loss so far)
OnStep = Callable[[int, int, float], None]
# Some parameters and their learning rate, as torch.optim takes them: {"params": [...], "lr": ...}
ParameterGroup = dict[str, Any]

logger = logging.getLogger("prostafed.training")


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
    network: nn.Module,
    batch_loss: BatchLoss,
    case_count: int,
    settings: Optimisation,
    on_step: OnStep,
    groups: Sequence[ParameterGroup] | None = None,
    divisible: bool = False,
) -> TrainingRecord:
    """Train `network` in place and return its record; raises DataError where no case can be used, the loss is not
    finite, or a batch does not fit into the GPU's memory.

    `groups`: parameters with learning rates of their own; by default all of the network's with that of `settings`.
    `divisible`: the loss is (nearly) a mean over cases, so that a batch that does not fit is passed in halves whose
    gradients are added up, from then on. Forward passes on a GPU that has it are in bfloat16.
    """
    if case_count == 0:
        raise DataError("The site has no case to train on in this stage. Check its labels and its split.")
    started = time.monotonic()
    network.train()
    optimiser = torch.optim.AdamW(
        groups or network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    steps, total = 0, settings.epochs * math.ceil(case_count / settings.batch_size)
    losses: list[float] = []
    at_once = settings.batch_size if divisible else None
    for epoch in range(settings.epochs):
        generator = Generator().manual_seed(derive_seed(settings.seed, epoch))
        losses = []
        for batch in split_batches(case_count, settings.batch_size, generator):
            drawn = generator.get_state()
            while True:
                optimiser.zero_grad(set_to_none=True)
                try:
                    loss = _backward(network, batch_loss, batch, at_once or len(batch), generator)
                    break
                except torch.OutOfMemoryError as error:
                    at_once = _halve(min(at_once or 1, len(batch)), error)
                    generator.set_state(drawn)  # the step is taken again from its beginning
            if not math.isfinite(loss):
                raise DataError(f"The loss became {loss} at step {steps + 1}. Lower the stage's learning_rate.")
            nn.utils.clip_grad_norm_(network.parameters(), max_norm=5.0)
            optimiser.step()
            steps += 1
            losses.extend([loss] * len(batch))
            on_step(steps, total, sum(losses) / len(losses))
    return TrainingRecord(sum(losses) / len(losses), case_count, steps, time.monotonic() - started)


def _backward(network: nn.Module, batch_loss: BatchLoss, batch: list[int], at_once: int, generator: Generator) -> float:
    """Add up the gradients of a batch, at most `at_once` cases at a time, and return its loss; not finite, no gradient
    is added.
    """
    device = next(network.parameters()).device
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    total = 0.0
    for part in torch.tensor_split(torch.tensor(batch), math.ceil(len(batch) / at_once)):
        with torch.autocast(device.type, torch.bfloat16, enabled=native):
            loss = batch_loss(part.tolist(), generator)
        total += loss.item() * len(part) / len(batch)
        if not math.isfinite(total):
            return total
        (loss * (len(part) / len(batch))).backward()  # type: ignore[no-untyped-call]
    return total


def _halve(at_once: int, error: torch.OutOfMemoryError) -> int:
    """Return half of what did not fit, and say so; raises DataError where it cannot be halved."""
    if at_once < 2:
        raise DataError("A batch does not fit into the GPU's memory. Lower the stage's batch_size.") from error
    logger.warning("%d cases at once do not fit into the GPU's memory; going on with %d.", at_once, at_once // 2)
    return at_once // 2


def split_batches(count: int, batch_size: int, generator: Generator) -> Iterator[list[int]]:
    """Yield a shuffled epoch in batches as equal as they can be: no batch of one case is left over."""
    order = torch.randperm(count, generator=generator)
    for batch in torch.tensor_split(order, math.ceil(count / batch_size)):
        yield batch.tolist()
