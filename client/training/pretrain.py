"""One round of self-supervised pretraining at a site."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.feed import load_batch
from prostafed.client.training.loop import PLAIN, Continuation, OnStep, Optimisation, TrainingRecord, optimise
from prostafed.client.training.step import PartLoss
from prostafed.common.imaging.augment import hide_sequences
from prostafed.common.imaging.cases import Cases
from prostafed.common.ssl.method import Method, Views


def pretrain(
    network: nn.ModuleDict,
    method: Method,
    cases: Cases,
    chosen: Sequence[int],
    spacing_mm: tuple[float, float, float],
    settings: Optimisation,
    device: torch.device,
    on_step: OnStep,
    hideable: Sequence[int] = (),
    continuation: Continuation = PLAIN,
) -> TrainingRecord:
    """Train `network` in place on the `chosen` cases, labelled or not, and return the record of the round.

    The sequences (channels) in `hideable` are hidden now and then. Targets and queues move after every optimiser step.
    """
    latest: Views = ()

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        images, _, records = load_batch(cases, [chosen[index] for index in batch], device)
        seen = method.views(hide_sequences(images, hideable, generator), spacing_mm, generator)

        def part_loss(part: slice) -> Tensor:
            nonlocal latest
            compared = method.outputs(network, tuple(view[part] for view in seen))
            if method.advance is not None:
                latest = compared
            with torch.autocast(device.type, enabled=False):  # distances between projections need all their digits
                return method.loss(compared, records[part])

        return part_loss

    def after_step(step: int, steps: int, loss: float) -> None:
        if method.advance is not None:
            method.advance(network, latest)
        on_step(step, steps, loss)

    network.to(device)
    divisible = method.decomposes_per_sample
    return optimise(
        network, batch_loss, len(chosen), settings, after_step, divisible=divisible, continuation=continuation
    )
