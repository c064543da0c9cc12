"""A self-supervised method as a value: how to make views, which heads it needs, what the network gives,
and the loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import GroupBuilder

Views = tuple[Tensor, ...]


@dataclass(frozen=True)
class Method:
    """One line of METHODS, built.

    heads       builders of the tensor groups beside "encoder"
    views       (images (batch, sequence, z, y, x), spacing_mm, generator) -> what the network sees, and what it is
    compared with outputs     (network, views) -> what the loss compares loss        (outputs, the batch's records) ->
    scalar decomposes_per_sample   whether the loss is a mean over cases, which DP-SGD needs; contrastive losses are
    not
    """

    heads: Mapping[str, GroupBuilder]
    views: Callable[[Tensor, tuple[float, float, float], Generator], Views]
    outputs: Callable[[nn.ModuleDict, Views], Views]
    loss: Callable[[Views, Sequence[CaseRecord]], Tensor]
    decomposes_per_sample: bool
