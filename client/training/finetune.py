"""One round of supervised fine-tuning at a site."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.batches import load_batch
from prostafed.client.training.optimise import OnStep, Optimisation, TrainingRecord, optimise
from prostafed.common.imaging.augment import apply_augmentation, apply_geometry, draw_augmentation
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
) -> TrainingRecord:
    """Train `network` in place on those of the `chosen` cases the task can use, and return the record of the round."""
    usable = [index for index in chosen if task.usable(cases.records[index])]

    def batch_loss(batch: list[int], generator: Generator) -> Tensor:
        images, masks, records = load_batch(cases, [usable[index] for index in batch], device)
        drawn = draw_augmentation(len(batch), spacing_mm, generator)
        moved = apply_geometry(masks.float(), drawn, mode="nearest")
        return task.loss(task.outputs(network, apply_augmentation(images, drawn)), task.targets(records, moved))

    return optimise(network.to(device), batch_loss, len(usable), settings, on_step)
