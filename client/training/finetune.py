"""One round of supervised fine-tuning at a site."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from prostafed.client.training.feed import load_batch
from prostafed.client.training.loop import PLAIN, Continuation, OnStep, Optimisation, TrainingRecord, optimise
from prostafed.client.training.optimisers import ParameterGroup
from prostafed.client.training.step import PartLoss
from prostafed.common.imaging.augment import apply_augmentation, apply_geometry, draw_augmentation, hide_sequences
from prostafed.common.imaging.cases import Cases
from prostafed.common.tasks.task import Task


@dataclass(frozen=True)
class Tuning:
    """How much of the network a round changes."""

    frozen: bool = False  # the encoder stays as it is: a linear probe, or the first rounds of a gradual thaw
    frozen_heads: bool = False  # all but the encoder stays as it is
    layer_decay: float = 1.0  # in (0, 1]: factor on the learning rate from each stage of the encoder to the one before


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
    tuning: Tuning = Tuning(),
    continuation: Continuation = PLAIN,
) -> TrainingRecord:
    """Train `network` in place on those of the `chosen` cases the task can use, and return the record of the round.

    The sequences (channels) in `hideable` are hidden now and then. What is frozen keeps every bit.
    """
    usable = [index for index in chosen if task.usable(cases.records[index])]

    def batch_loss(batch: list[int], generator: Generator) -> PartLoss:
        images, masks, records = load_batch(cases, [usable[index] for index in batch], device)
        drawn = draw_augmentation(len(batch), spacing_mm, generator)
        moved = apply_geometry(masks.float(), drawn, mode="nearest")
        seen = apply_augmentation(hide_sequences(images, hideable, generator), drawn)

        def part_loss(part: slice) -> Tensor:
            return task.loss(task.outputs(network, seen[part]), task.targets(records[part], moved[part])).mean()

        return part_loss

    network.to(device)
    for name, group in network.items():
        group.requires_grad_(not (tuning.frozen if name == "encoder" else tuning.frozen_heads))
    groups = None
    if tuning.layer_decay < 1:
        groups = decay_layers(network, settings.learning_rate, tuning.layer_decay)
    return optimise(
        network, batch_loss, len(usable), settings, on_step, groups, divisible=True, continuation=continuation
    )


def decay_layers(network: nn.ModuleDict, learning_rate: float, decay: float) -> list[ParameterGroup]:
    """Return the optimiser's parameter groups: heads at `learning_rate`, the encoder's deepest stage at `decay` times
    it, the one before it at decay^2, and so on.

    Layer-wise learning-rate decay, after Clark et al. 2020 (ELECTRA), per stage instead of per layer.
    """
    encoder = network["encoder"]
    assert isinstance(encoder.stages, nn.ModuleList)
    assert isinstance(encoder.absence, nn.ModuleList)
    stages, shifts = list(encoder.stages), list(encoder.absence)
    heads = [parameter for name, group in network.items() if name != "encoder" for parameter in group.parameters()]
    groups: list[ParameterGroup] = [{"params": heads, "lr": learning_rate}]
    for number, stage in enumerate(stages):
        parts = nn.ModuleList([stage, *shifts[number : number + 1]])
        groups.append({"params": list(parts.parameters()), "lr": learning_rate * decay ** (len(stages) - number)})
    return groups
