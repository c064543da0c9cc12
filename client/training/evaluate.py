"""Predictions for a split of a site's cases."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prostafed.client.training.feed import Feed
from prostafed.client.training.machine import USUAL_MACHINE, Machine, choose_dtype, halve
from prostafed.common.imaging.cases import Masks
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.tasks.task import Task


def predict(
    network: nn.ModuleDict, task: Task, feed: Feed, batch_size: int, machine: Machine = USUAL_MACHINE
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, prediction) for each case of `feed`; its masks are not read.

    A task of maps goes through volumes larger than the feed's grid part by part. Precision and cases at once are those
    of training on this `machine`; what does not fit into the GPU's memory is passed in halves from then on. Raises
    DataError where a single case does not fit.
    """
    return ((index, found) for index, found, _ in _pass(network, task, feed, batch_size, machine, masks=False))


def assess(
    network: nn.ModuleDict, task: Task, feed: Feed, batch_size: int, machine: Machine = USUAL_MACHINE
) -> list[CasePrediction]:
    """Return what the network says of those cases of `feed` whose truth is known, each read once; all else as in
    `predict`.
    """
    records, known = feed.cases.records, feed.choose(task.usable)
    return [
        task.assess(found, records[index], masks, feed.grid.spacing_mm)
        for index, found, masks in _pass(network, task, known, batch_size, machine, masks=True)
    ]


@torch.no_grad()
def _pass(
    network: nn.ModuleDict, task: Task, feed: Feed, batch_size: int, machine: Machine, masks: bool
) -> Iterator[tuple[int, npt.NDArray[np.float32], Masks]]:
    """Yield (index, prediction, masks) of each case; without `masks` these are empty."""
    network.to(feed.device).eval()
    dtype, at_once, done = choose_dtype(machine.precision, feed.device), machine.micro_batch or batch_size, 0
    while done < len(feed.chosen):
        positions = range(done, min(done + at_once, len(feed.chosen)))
        try:
            batch = feed.load(positions, masks)
            with torch.autocast(feed.device.type, dtype, enabled=dtype != torch.float32):
                found = [task.predict(logits) for logits in _logits(network, task, batch.images, feed.grid.size)]
        except torch.OutOfMemoryError as error:
            at_once = halve(len(positions), error)
            continue
        for place, prediction in enumerate(found):
            yield feed.chosen[done + place], prediction, batch.masks[place : place + 1].squeeze(0).numpy()
        done += len(positions)


def _logits(network: nn.ModuleDict, task: Task, images: Tensor, window: tuple[int, int, int]) -> Tensor:
    """Return logits for the whole volumes; overlapping windows of the size trained on are averaged, their middles
    counting more than their edges.
    """
    size = images.shape[2:]
    if not task.maps or all(voxels <= most for voxels, most in zip(size, window, strict=True)):
        return task.outputs(network, images)
    from monai.inferers import sliding_window_inference  # loads in seconds

    part = [min(pair) for pair in zip(size, window, strict=True)]  # an axis that fits is not padded
    logits: Tensor = sliding_window_inference(
        images, part, sw_batch_size=1, predictor=partial(task.outputs, network), overlap=0.5, mode="gaussian"
    )
    return logits
