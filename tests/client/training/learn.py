"""Training of a network whose batch loss is written out, on cases that are but numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, nn

from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import TrainingRecord, optimise
from prostafed.client.training.objective import Objective
from prostafed.client.training.optimisers import Optimisation
from prostafed.client.training.step import PartLoss
from prostafed.common.imaging.cases import CaseRecord, CasesInMemory, Grid

GRID, CPU = Grid((1.0, 1.0, 1.0), (1, 1, 1)), torch.device("cpu")


def number_cases(count: int) -> Feed:
    """Return a feed of `count` cases, each named by its index."""
    image, masks = np.zeros((1, 1, 1, 1), np.float16), np.zeros((3, 1, 1, 1), np.uint8)
    records = tuple(CaseRecord(str(index), str(index)) for index in range(count))
    return Feed(CasesInMemory(records, ((image, masks),) * count), range(count), GRID, CPU)


def learn(
    network: nn.Module,
    batch_loss: Callable[[list[int], Generator], PartLoss],
    count: int,
    settings: Optimisation,
    divisible: bool = False,
    **joining: Any,
) -> TrainingRecord:
    """Train on `count` cases; `batch_loss` is given the indices of a batch, and what it draws with."""
    objective = Objective(
        usable=lambda record: True,
        masks=False,
        batch_loss=lambda _, batch, generator: batch_loss([int(each.case_id) for each in batch.records], generator),
        divisible=divisible,
    )
    return optimise(network, objective, number_cases(count), settings, **joining)
