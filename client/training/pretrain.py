"""One round of self-supervised pretraining at a site."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.batches import load_batch
from prostafed.client.training.optimise import OnStep, Optimisation, TrainingRecord, optimise
from prostafed.common.imaging.augment import hide_sequences
from prostafed.common.imaging.cases import Cases
from prostafed.common.ssl.method import Method


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
) -> TrainingRecord:
    """Train `network` in place on the `chosen` cases, labelled or not, and return the record of the round.

    The sequences (channels) in `hideable` are hidden now and then.
    """

    def batch_loss(batch: list[int], generator: Generator) -> Tensor:
        images, _, records = load_batch(cases, [chosen[index] for index in batch], device)
        seen = method.views(hide_sequences(images, hideable, generator), spacing_mm, generator)
        return method.loss(method.outputs(network, seen), records)

    return optimise(network.to(device), batch_loss, len(chosen), settings, on_step)
