"""A site's optimisers: how they are made, what of them is kept from round to round."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prostafed.common.tensors import Tensors

# Some parameters and their learning rate, as torch.optim takes them: {"params": [...], "lr": ...}
ParameterGroup = dict[str, Any]
OptimiserState = dict[int, dict[str, Tensor]]  # as torch's: number of the parameter -> name -> tensor


def make_optimiser(
    network: nn.Module,
    name: str,
    learning_rate: float,
    weight_decay: float,
    groups: Sequence[ParameterGroup] | None = None,
) -> torch.optim.Optimizer:
    """Return "adamw", or "sgd" without momentum, over `groups`, by default one of all parameters."""
    build: type[torch.optim.AdamW | torch.optim.SGD] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    return build(groups or network.parameters(), lr=learning_rate, weight_decay=weight_decay, foreach=True)


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
