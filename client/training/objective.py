"""What a network learns in a stage, as a value: pretraining with a method, fine-tuning for a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.feed import Batch
from prostafed.client.training.step import PartLoss
from prostafed.common.imaging.augment import apply_augmentation, apply_geometry, draw_augmentation
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.method import Method, Views
from prostafed.common.tasks.task import Task


@dataclass(frozen=True)
class Objective:
    """What a network learns.

    usable      whether a case carries what is learnt from
    masks       whether it is learnt from masks; otherwise they are not read
    batch_loss  (network, batch, generator) -> the loss of any part of the batch. All that is random is drawn here, for
                the whole batch, so that it does not matter in which parts it then passes through the network
    divisible   whether the loss is a mean over cases, the same whatever parts a batch is passed in
    after_step  (network) -> None, after each optimiser step
    targets     groups that are not trained but follow another -> the group they follow; they start equal to it
    teaches_cspca   whether what is learnt from tells who has csPCa
    """

    usable: Callable[[CaseRecord], bool]
    masks: bool
    batch_loss: Callable[[Any, Batch, Generator], PartLoss]
    divisible: bool
    after_step: Callable[[Any], None] = lambda network: None
    targets: Mapping[str, str] = field(default_factory=dict)
    teaches_cspca: bool = False
    counted: Callable[[CaseRecord], Sequence[bool]] = lambda record: ()


def pretraining(method: Method) -> Objective:
    """Return what a self-supervised method learns, from every case, labelled or not."""
    latest: Views = ()

    def batch_loss(network: nn.ModuleDict, batch: Batch, generator: Generator) -> PartLoss:
        seen = method.views(batch.images, batch.spacing_mm, generator)

        def part_loss(part: slice) -> Tensor:
            nonlocal latest
            compared = method.outputs(network, tuple(view[part] for view in seen))
            if method.advance is not None:
                latest = compared
            with torch.autocast(batch.images.device.type, enabled=False):  # distances need all their digits
                return method.loss(compared, batch.records[part])

        return part_loss

    return Objective(
        usable=lambda record: True,
        masks=False,
        batch_loss=batch_loss,
        divisible=method.decomposes_per_sample,
        after_step=lambda network: method.advance(network, latest) if method.advance is not None else None,
        targets=method.targets,
    )


def finetuning(task: Task) -> Objective:
    """Return what a task learns, from the cases it can use, augmented anew each time; masks move along."""

    def batch_loss(network: nn.ModuleDict, batch: Batch, generator: Generator) -> PartLoss:
        drawn = draw_augmentation(len(batch.records), batch.spacing_mm, generator)
        moved = apply_geometry(batch.masks.to(batch.images.device).float(), drawn, mode="nearest")
        seen = apply_augmentation(batch.images, drawn)

        def part_loss(part: slice) -> Tensor:
            return task.loss(task.outputs(network, seen[part]), task.targets(batch.records[part], moved[part])).mean()

        return part_loss

    return Objective(
        task.usable, True, batch_loss, divisible=True, teaches_cspca=task.teaches_cspca, counted=task.counted
    )
