"""Predictions for a split of a site's cases."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from prostafed.client.training.feed import load_batch
from prostafed.client.training.machine import USUAL_MACHINE, Machine, choose_dtype, halve
from prostafed.common.imaging.cases import Cases
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.tasks.task import Task


@torch.no_grad()
def predict(
    network: nn.ModuleDict,
    task: Task,
    cases: Cases,
    chosen: Sequence[int],
    batch_size: int,
    device: torch.device,
    window: tuple[int, int, int] | None = None,
    machine: Machine = USUAL_MACHINE,
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, prediction) for each of the `chosen` cases.

    A task of maps goes through volumes larger than `window`, voxels (z, y, x), part by part. Precision and cases at
    once are those of training on this `machine`; what does not fit into the GPU's memory is passed in halves from then
    on. Raises DataError where a single case does not fit.
    """
    network.to(device).eval()
    dtype, at_once, done = choose_dtype(machine.precision, device), machine.micro_batch or batch_size, 0
    while done < len(chosen):
        batch = chosen[done : done + at_once]
        try:
            images, _, _ = load_batch(cases, batch, device)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                found = [task.predict(logits) for logits in _logits(network, task, images, window)]
        except torch.OutOfMemoryError as error:
            at_once = halve(len(batch), error)
            continue
        yield from zip(batch, found, strict=True)
        done += len(batch)


def _logits(network: nn.ModuleDict, task: Task, images: Tensor, window: tuple[int, int, int] | None) -> Tensor:
    """Return logits for the whole volumes; overlapping windows of the size trained on are averaged, their middles
    counting more than their edges.
    """
    size = images.shape[2:]
    if not task.maps or window is None or all(voxels <= most for voxels, most in zip(size, window, strict=True)):
        return task.outputs(network, images)
    part = [min(pair) for pair in zip(size, window, strict=True)]  # an axis that fits is not padded
    logits: Tensor = sliding_window_inference(
        images, part, sw_batch_size=1, predictor=partial(task.outputs, network), overlap=0.5, mode="gaussian"
    )
    return logits


def assess(
    network: nn.ModuleDict,
    task: Task,
    cases: Cases,
    chosen: Sequence[int],
    spacing_mm: tuple[float, float, float],
    batch_size: int,
    device: torch.device,
    window: tuple[int, int, int] | None = None,
    machine: Machine = USUAL_MACHINE,
) -> list[CasePrediction]:
    """Return what the network says of those of the `chosen` cases whose truth is known; all else as in `predict`."""
    usable = [index for index in chosen if task.usable(cases.records[index])]
    return [
        task.assess(prediction, cases.records[index], cases.load(index)[1], spacing_mm)
        for index, prediction in predict(network, task, cases, usable, batch_size, device, window, machine)
    ]
