"""One round of supervised fine-tuning at a site."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.batches import load_batch
from prostafed.client.training.optimise import OnStep, Optimisation, TrainingRecord, optimise
from prostafed.common.imaging.augment import apply_augmentation, apply_geometry, draw_augmentation, hide_sequences
from prostafed.common.imaging.cases import Cases
from prostafed.common.tasks.task import Task


def finetune(
    network: nn.ModuleDict,
    task: Task,
    cases: Cases,
    chosen: Sequence[int],
    spacing_mm: tuple[float, float, float],
    settings: Optimisation,
    device: torch.device,
    on_step: OnStep,
    hideable: Sequence[int] = (),
) -> TrainingRecord:
    """Train `network` in place on those of the `chosen` cases the task can use, and return the record of the round.

    The sequences (channels) in `hideable` are hidden now and then.
    """
    usable = [index for index in chosen if task.usable(cases.records[index])]

    def batch_loss(batch: list[int], generator: Generator) -> Tensor:
        images, masks, records = load_batch(cases, [usable[index] for index in batch], device)
        drawn = draw_augmentation(len(batch), spacing_mm, generator)
        moved = apply_geometry(masks.float(), drawn, mode="nearest")
        seen = apply_augmentation(hide_sequences(images, hideable, generator), drawn)
        return task.loss(task.outputs(network, seen), task.targets(records, moved))

    return optimise(network.to(device), batch_loss, len(usable), settings, on_step)
