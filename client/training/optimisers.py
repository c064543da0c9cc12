"""A site's optimisers: how they are made, what they train, what of them is kept from round to round."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from prostafed.common.tensors import Tensors

# Some parameters and their learning rate, as torch.optim takes them: {"params": [...], "lr": ...}
ParameterGroup = dict[str, Any]
OptimiserState = dict[int, dict[str, Tensor]]  # as torch's: number of the parameter -> name -> tensor


@dataclass(frozen=True)
class Tuning:
    """How much of a network a round changes."""

    frozen: bool = False  # the encoder stays as it is: a linear probe, or the first rounds of a gradual thaw
    frozen_heads: bool = False  # all but the encoder stays as it is
    layer_decay: float = 1.0  # in (0, 1]: factor on the learning rate from each stage of the encoder to the one before


@dataclass(frozen=True)
class Optimisation:
    """How a round trains."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int
    optimiser: Literal["adamw", "sgd"] = "adamw"  # sgd without momentum
    tuning: Tuning = Tuning()


def make_optimiser(network: nn.Module, settings: Optimisation) -> torch.optim.Optimizer:
    """Open what is tuned of a network to training, close the rest, and return the optimiser of it; what is closed
    keeps every bit.
    """
    rate, tuning = settings.learning_rate, settings.tuning
    for name, group in network.named_children():
        group.requires_grad_(not (tuning.frozen if name == "encoder" else tuning.frozen_heads))
    build: type[torch.optim.AdamW | torch.optim.SGD]
    build = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.optimiser]
    groups = decay_layers(network, rate, tuning.layer_decay) if tuning.layer_decay < 1 else network.parameters()
    return build(groups, lr=rate, weight_decay=settings.weight_decay, foreach=True)


def decay_layers(network: nn.Module, learning_rate: float, decay: float) -> list[ParameterGroup]:
    """Return the optimiser's parameter groups: heads at `learning_rate`, the encoder's deepest stage at `decay` times
    it, the one before it at decay^2, and so on.

    Layer-wise learning-rate decay, after Clark et al. 2020 (ELECTRA), per stage instead of per layer.
    """
    groups = dict(network.named_children())
    encoder = groups.pop("encoder")
    assert isinstance(encoder.stages, nn.ModuleList)
    assert isinstance(encoder.absence, nn.ModuleList)
    stages, shifts = list(encoder.stages), list(encoder.absence)
    heads = [parameter for group in groups.values() for parameter in group.parameters()]
    decayed: list[ParameterGroup] = [{"params": heads, "lr": learning_rate}]
    for number, stage in enumerate(stages):
        parts = nn.ModuleList([stage, *shifts[number : number + 1]])
        decayed.append({"params": list(parts.parameters()), "lr": learning_rate * decay ** (len(stages) - number)})
    return decayed


def load_state(optimiser: torch.optim.Optimizer, state: OptimiserState) -> None:
    """Give an optimiser the moments in `state`; its learning rates stay this round's."""
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def read_rates(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """Return the learning rate of each parameter that is open to training, by name."""
    names = {id(parameter): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {
        names[id(parameter)]: float(group["lr"])
        for group in optimiser.param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


def pack_states(states: Mapping[str, OptimiserState]) -> Tensors:
    """Return the states of several optimisers, by name, as arrays `name/parameter/moment`."""
    return {
        f"{name}/{parameter}/{moment}": np.array(tensor.numpy(force=True))
        for name, state in states.items()
        for parameter, moments in state.items()
        for moment, tensor in moments.items()
    }


def unpack_state(arrays: Tensors, name: str) -> OptimiserState:
    """Return the state that `pack_states` packed under `name`, {} where there is none."""
    state: OptimiserState = {}
    for key, array in arrays.items():
        found, parameter, moment = key.split("/")
        if found == name:
            state.setdefault(int(parameter), {})[moment] = torch.from_numpy(np.array(array))
    return state
