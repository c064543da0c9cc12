"""Predictions for a split of a site's cases."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prostafed.client.training.batches import load_batch
from prostafed.common.imaging.cases import Cases
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.tasks.task import Task


@torch.no_grad()
def predict(
    network: nn.ModuleDict, task: Task, cases: Cases, chosen: Sequence[int], batch_size: int, device: torch.device
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, prediction) for each of the `chosen` cases."""
    network.to(device).eval()
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        images, _, _ = load_batch(cases, batch, device)
        for index, logits in zip(batch, task.outputs(network, images), strict=True):
            yield index, task.predict(logits)


def assess(
    network: nn.ModuleDict,
    task: Task,
    cases: Cases,
    chosen: Sequence[int],
    spacing_mm: tuple[float, float, float],
    batch_size: int,
    device: torch.device,
) -> list[CasePrediction]:
    """Return what the network says of those of the `chosen` cases whose truth is known."""
    usable = [index for index in chosen if task.usable(cases.records[index])]
    return [
        task.assess(prediction, cases.records[index], cases.load(index)[1], spacing_mm)
        for index, prediction in predict(network, task, cases, usable, batch_size, device)
    ]
