"""A self-supervised method as a value: how to make views, which heads it needs, what the network gives,
and the loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Generator, Tensor, nn

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.network import GroupBuilder

Views = tuple[Tensor, ...]


@dataclass(frozen=True)
class About:
    """What the documentation says of a method: ABOUT of its module."""

    family: str  # how it learns, in a few words
    paper: str
    equation: str  # of the loss, in the symbols of docs/methods.md
    when: str  # what it was made for, and what it needs


@dataclass(frozen=True)
class Method:
    """One line of METHODS, built.

    heads       builders of the tensor groups beside "encoder"
    views       (images (batch, sequence, z, y, x), spacing_mm, generator) -> what the network sees, and what it is
                compared with
    outputs     (network, views) -> what the loss compares; this part may run under autocast
    loss        (outputs, the batch's records) -> scalar, in float32 whatever precision the outputs came in
    decomposes_per_sample   whether the loss is a mean over cases, which DP-SGD needs; contrastive losses are not
    targets     groups that follow another as its moving average -> the group they follow. They start equal to it, are
                not trained, and never travel; a site keeps them between rounds
    advance     (network, outputs) -> None, after each optimiser step: moves targets and queues along
    """

    heads: Mapping[str, GroupBuilder]
    views: Callable[[Tensor, tuple[float, float, float], Generator], Views]
    outputs: Callable[[nn.ModuleDict, Views], Views]
    loss: Callable[[Views, Sequence[CaseRecord]], Tensor]
    decomposes_per_sample: bool
    targets: Mapping[str, str] = field(default_factory=dict)
    advance: Callable[[nn.ModuleDict, Views], None] | None = None
