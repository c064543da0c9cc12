"""One optimiser step on a site's machine: a batch in as many parts as fit, in the machine's precision."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.machine import Machine, choose_dtype, halve, say_once, sum_gradients, sum_over_ranks
from prostafed.common.errors import DataError

# A part of a batch -> its loss
PartLoss = Callable[[slice], Tensor]
# (indices of the batch's cases, generator for everything drawn) -> loss of any part of it. All that is random is drawn
# here, for the whole batch, so that it does not matter in which parts the batch then passes through the network.
BatchLoss = Callable[[list[int], Generator], PartLoss]
# Adds to the gradients of a network, after the backward pass and before clipping
Adjust = Callable[[nn.Module], None]

CLIP_NORM = 5.0


class Stepper:
    """Takes a network's optimiser steps; remembers how many cases fit at once, and the loss scale of float16."""

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        machine: Machine,
        batch_size: int,
        divisible: bool,
        adjust: Adjust | None,
        scaler: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`divisible`: the loss is a mean over cases, the same whatever parts a batch is passed in. `scaler`: the loss
        scale's state after the round before, empty in the first.
        """
        if machine.micro_batch and not divisible:
            say_once("micro_batch is not used: this stage's loss compares the cases of a batch with each other.")
        assert divisible or machine.ranks == 1
        self._network, self._optimiser, self._machine, self._adjust = network, optimiser, machine, adjust
        self._at_once = (machine.micro_batch or batch_size) if divisible else None
        self._device = next(network.parameters()).device
        self._dtype = choose_dtype(machine.precision, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        if scaler and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(scaler))
        self._scaler.scale(torch.zeros((), device=self._device))  # a process without a case scales nothing of its own

    def step(self, batch: list[int], batch_loss: BatchLoss, generator: Generator) -> float:
        """Take the step of a batch and return its loss; with one that is not finite no step is taken.

        Where gradients overflow float16 the step is taken again with a lower loss scale, so that every step counted was
        taken. Raises DataError where none fits; else as `backward`.
        """
        drawn = generator.get_state()
        while True:
            loss = self.backward(batch, batch_loss, generator)
            if not math.isfinite(loss) or self.update():
                return loss
            if self._scaler.get_scale() < 1:
                raise DataError('Gradients overflow float16. Set precision = "float32" in the site file.')
            generator.set_state(drawn)

    def backward(self, batch: list[int], batch_loss: BatchLoss, generator: Generator) -> float:
        """Set the gradients to those of a batch and return its loss; not finite, the gradients are of no use.

        What does not fit into the GPU's memory is passed in halves from then on; raises DataError where it cannot be.
        """
        drawn = generator.get_state()
        mine = split_evenly(0, len(batch), self._machine.ranks)[self._machine.rank]
        while True:
            self._optimiser.zero_grad(set_to_none=True)
            try:
                loss = self._add_up(batch_loss(batch, generator), mine, len(batch))
                return sum_over_ranks(loss, self._machine, self._device)
            except torch.OutOfMemoryError as error:
                if self._at_once is None:
                    raise DataError(
                        "A batch does not fit into the GPU's memory, and this stage's loss compares its cases with "
                        "each other. Lower the stage's batch_size."
                    ) from error
                self._at_once = halve(min(self._at_once, mine.stop - mine.start), error)
                generator.set_state(drawn)  # the step is taken again from its beginning

    def _add_up(self, part_loss: PartLoss, mine: slice, count: int) -> float:
        cases, total = mine.stop - mine.start, 0.0
        if not cases:
            return total  # more processes than cases in the batch
        for part in split_evenly(mine.start, mine.stop, math.ceil(cases / (self._at_once or count))):
            with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
                loss = part_loss(part)
            share: float = (part.stop - part.start) / count
            total += float(loss.item()) * share
            if not math.isfinite(total):
                return total
            self._scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
        return total

    def update(self) -> bool:
        """Take the step: gradients of all processes, what a rule adds, clipping, optimiser. Return whether it was
        taken: gradients that overflow float16 lower the loss scale instead.
        """
        scale = self._scaler.get_scale()
        sum_gradients(self._network, self._machine)
        self._scaler.unscale_(self._optimiser)
        if self._adjust is not None:
            self._adjust(self._network)
        nn.utils.clip_grad_norm_(self._network.parameters(), max_norm=CLIP_NORM)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return self._scaler.get_scale() >= scale

    def state(self) -> dict[str, Any]:
        """Return what the steps so far have taught about the machine."""
        return {"at_once": self._at_once, "scaler": self._scaler.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._at_once = state["at_once"]
        self._scaler.load_state_dict(state["scaler"])


def split_evenly(start: int, stop: int, parts: int) -> list[slice]:
    """Return start:stop in parts as equal as they can be, the larger ones first."""
    size, larger = divmod(stop - start, parts)
    edges = [start + size * number + min(number, larger) for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]
