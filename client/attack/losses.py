"""The loss of single cases under a model, as an attacker measures it: on the images as they are."""

from collections.abc import Sequence

import torch
from torch import nn

from prostafed.client.training.feed import Feed
from prostafed.common.tasks.task import Task

AT_ONCE = 4  # cases: the smallest machine takes them


@torch.no_grad()
def measure_losses(network: nn.ModuleDict, task: Task, feed: Feed) -> list[tuple[str, float]]:
    """Return (patient, loss) for each case of `feed`, all of which the task can learn from; images are not augmented,
    arithmetic is float32.
    """
    network.to(feed.device).eval()
    found: list[tuple[str, float]] = []
    for start in range(0, len(feed.chosen), AT_ONCE):
        batch = feed.load(range(start, min(start + AT_ONCE, len(feed.chosen))), masks=True)
        targets = task.targets(batch.records, batch.masks.to(feed.device).float())
        losses = task.loss(task.outputs(network, batch.images), targets)
        patients = [record.patient_id for record in batch.records]
        found += list(zip(patients, losses.double().tolist(), strict=True))
    return found


def negate(losses: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return scores that are larger where a loss is smaller."""
    return [(patient, -loss) for patient, loss in losses]
