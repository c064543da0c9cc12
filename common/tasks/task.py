"""A supervised task as a value: its heads, what it learns from, its loss, and what it says of a case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from prostafed.common.imaging.cases import CaseRecord, Masks
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.network import GroupBuilder


@dataclass(frozen=True)
class Task:
    """One line of TASKS, built.

    heads     builders of the tensor groups beside "encoder"; they stay at the site
    usable    whether a case carries what the task learns from
    targets   (records, masks (batch, MASKS, z, y, x)) -> target
    maps      whether logits are maps, (batch, channel, z, y, x) on the images' own grid; else (batch, ...)
    outputs   (network, images (batch, sequence, z, y, x)) -> logits
    loss      (logits, target) -> what each case costs, (batch,). It depends on that case alone, so that a batch's mean
              is the same in whatever parts and processes it is passed, and a site's objective is that of its cases
    predict   logits of one case -> prediction in [0, 1]: probabilities, a map (z, y, x) or maps (channel, z, y, x)
    assess    (prediction, record, masks, spacing_mm) -> what is compared over cases
    teaches_cspca   whether its targets tell who has csPCa
    """

    heads: Mapping[str, GroupBuilder]
    usable: Callable[[CaseRecord], bool]
    targets: Callable[[Sequence[CaseRecord], Tensor], Tensor]
    maps: bool
    outputs: Callable[[nn.ModuleDict, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    predict: Callable[[Tensor], npt.NDArray[np.float32]]
    assess: Callable[[npt.NDArray[np.float32], CaseRecord, Masks, tuple[float, float, float]], CasePrediction]
    teaches_cspca: bool
