"""A rule as a value: what training begins from, what is added to gradients, what is kept and sent beside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from prostafed.client.training.step import Adjust
from prostafed.common.tensors import Tensors, group_of


@dataclass(frozen=True)
class RoundInput:
    """What a rule knows when a round begins."""

    shared: Tensors  # what travels, as the server sent it
    extra: Tensors = field(default_factory=dict)  # what the server sent beside
    kept: Tensors = field(default_factory=dict)  # what this rule kept at the site after its last round; at first {}


@dataclass(frozen=True)
class RoundResult:
    """What a round of training made of the shared tensors."""

    begun: Tensors  # before its first step
    ended: Tensors
    steps: int
    rates: Mapping[str, float]  # name -> learning rate, of those that were open to training


@dataclass(frozen=True)
class RuleOutput:
    """What a rule keeps at the site for the next round, and what it sends beside the shared tensors."""

    kept: Tensors = field(default_factory=dict)
    sent: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """What an aggregator asks of a site, built.

    begin      RoundInput -> the shared tensors training starts from
    adjust     RoundInput -> what is added to the gradients at every step, or None
    end        (RoundInput, RoundResult) -> what is kept and sent
    personal   RoundInput -> None, or what is added to the gradients of a network of the site's own, trained after the
               shared one; predictions are that network's
    """

    begin: Callable[[RoundInput], Tensors] = lambda given: given.shared
    adjust: Callable[[RoundInput], Adjust | None] = lambda given: None
    end: Callable[[RoundInput, RoundResult], RuleOutput] = lambda given, trained: RuleOutput()
    personal: Callable[[RoundInput], Adjust] | None = None


def pull_towards(anchor: Tensors, strength: float) -> Adjust:
    """Return what adds strength x (W - anchor) to the gradient of each parameter in `anchor` that has one: the gradient
    of strength/2 |W - anchor|^2.
    """
    on_device = _Moved(anchor)

    @torch.no_grad()
    def adjust(network: nn.Module) -> None:
        for name, parameter in network.named_parameters():
            if name in anchor and parameter.grad is not None:
                parameter.grad.add_(parameter - on_device(name, parameter), alpha=strength)

    return adjust


def add_constant(values: Tensors) -> Adjust:
    """Return what adds `values`, by name, to the gradient of each parameter that has one."""
    on_device = _Moved(values)

    @torch.no_grad()
    def adjust(network: nn.Module) -> None:
        for name, parameter in network.named_parameters():
            if name in values and parameter.grad is not None:
                parameter.grad.add_(on_device(name, parameter))

    return adjust


def measure_drift(begun: Tensors, ended: Tensors) -> float:
    """Return D, how far an encoder moved: the mean over its convolutions of the L2 distance of their weights.

    As the authors' code computes it (FedSSLClient of EasyFL: parameters with "conv" and "weight" in their names, the
    mean of torch.dist); convolutions are told here by their number of axes. 0 where none travels.
    """
    kernels = [name for name, array in begun.items() if group_of(name) == "encoder" and array.ndim >= 4]
    distances = [float(np.linalg.norm((ended[name] - begun[name]).astype(np.float64).ravel())) for name in kernels]
    return sum(distances) / len(distances) if distances else 0.0


class _Moved:
    """Arrays as tensors on a parameter's device, each moved once."""

    def __init__(self, arrays: Tensors) -> None:
        self._arrays = arrays
        self._moved: dict[str, Tensor] = {}

    def __call__(self, name: str, like: Tensor) -> Tensor:
        if name not in self._moved:
            self._moved[name] = torch.from_numpy(self._arrays[name]).to(like)
        return self._moved[name]
