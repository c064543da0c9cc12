"""One optimiser step on a site's machine: a batch in as many parts as fit, in the machine's precision."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from prostafed.client.training.machine import Machine, choose_dtype, halve, say_once, sum_gradients, sum_over_ranks
from prostafed.client.training.optimisers import load_state
from prostafed.common.errors import DataError

# A part of a batch -> its loss
PartLoss = Callable[[slice], Tensor]
# -> the loss of any part of a batch, which is read and drawn for here: from its own seed, so the same at every call
Draw = Callable[[], PartLoss]
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
        divisible: bool,
        adjust: Adjust | None,
    ) -> None:
        """`divisible`: the loss is a mean over cases, the same whatever parts a batch is passed in."""
        if machine.micro_batch and not divisible:
            say_once("micro_batch is not used: this stage's loss compares the cases of a batch with each other.")
        assert divisible or machine.ranks == 1
        self._network, self.optimiser, self._machine, self._adjust = network, optimiser, machine, adjust
        self._divisible, self._at_once = divisible, machine.micro_batch if divisible else 0  # 0: the whole batch
        self._device = next(network.parameters()).device
        self._dtype = choose_dtype(machine.precision, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._scaler.scale(torch.zeros((), device=self._device))  # a process without a case scales nothing of its own

    def step(self, count: int, draw: Draw) -> float:
        """Take the step of a batch of `count` cases and return its loss; with one that is not finite none is taken.

        Where gradients overflow float16 the step is taken again with a lower loss scale, so that every step counted was
        taken. Raises DataError where none fits; else as `backward`.
        """
        while True:
            loss = self.backward(count, draw)
            if not math.isfinite(loss) or self.update():
                return loss
            if self._scaler.get_scale() < 1:
                raise DataError('Gradients overflow float16. Set precision = "float32" in the site file.')

    def backward(self, count: int, draw: Draw) -> float:
        """Set the gradients to those of a batch and return its loss; not finite, the gradients are of no use.

        What does not fit into the GPU's memory is passed in halves from then on; raises DataError where it cannot be.
        """
        mine = split_evenly(0, count, self._machine.ranks)[self._machine.rank]
        while True:
            self.optimiser.zero_grad(set_to_none=True)
            try:
                loss = self._add_up(draw(), mine, count)
                return sum_over_ranks(loss, self._machine, self._device)
            except torch.OutOfMemoryError as error:
                if not self._divisible:
                    raise DataError(
                        "A batch does not fit into the GPU's memory, and this stage's loss compares its cases with "
                        "each other. Lower the stage's batch_size."
                    ) from error
                cases = mine.stop - mine.start
                self._at_once = halve(min(self._at_once or cases, cases), error)

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
        self._scaler.unscale_(self.optimiser)
        if self._adjust is not None:
            self._adjust(self._network)
        nn.utils.clip_grad_norm_(self._network.parameters(), max_norm=CLIP_NORM)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        return self._scaler.get_scale() >= scale

    def state(self) -> dict[str, Any]:
        """Return what steps can be gone on with from; it holds the live tensors."""
        return {
            "network": self._network.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
            "at_once": self._at_once,
            "scaler": self._scaler.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state`, or from its optimiser and loss scale alone; the learning rates stay."""
        if "network" in state:
            self._network.load_state_dict(state["network"])
        if state["optimiser"]:
            load_state(self.optimiser, state["optimiser"])
        self._at_once = state.get("at_once", self._at_once)
        if state["scaler"] and self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(state["scaler"]))


def split_evenly(start: int, stop: int, parts: int) -> list[slice]:
    """Return start:stop in parts as equal as they can be, the larger ones first."""
    size, larger = divmod(stop - start, parts)
    edges = [start + size * number + min(number, larger) for number in range(parts + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]
