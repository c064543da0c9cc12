"""What a site's machine makes of training: precision, cases at once, compilation, several processes."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import distributed, nn

from prostafed.common.errors import ConfigurationError, DataError

Precision = Literal["auto", "float32", "bf16", "fp16"]

logger = logging.getLogger("prostafed.training")


@dataclass(frozen=True)
class Machine:
    """How a site trains; see the site file. `rank` counts the `ranks` processes that train one network, from 0."""

    precision: Precision = "auto"
    micro_batch: int = 0  # cases at once; 0: the whole batch
    compile: bool = False
    rank: int = 0
    ranks: int = 1


USUAL_MACHINE = Machine()


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of forward passes: bfloat16 where the GPU computes in it, else float16, on a CPU float32, unless
    `precision` asks for one; raises ConfigurationError for float16 on a CPU.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type != "cuda":
        raise ConfigurationError('precision = "fp16" is for a GPU; this site trains on a CPU. Set "auto" or "float32".')
    return {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def halve(at_once: int, error: torch.OutOfMemoryError) -> int:
    """Return half of how many cases did not fit into the GPU's memory, and say so; raises DataError for one case."""
    if at_once < 2:
        raise DataError(
            "A single case does not fit into the GPU's memory. Free it of other programs, or give the site another "
            'device: a larger GPU, or "cpu".'
        ) from error
    logger.warning("%d cases at once do not fit into the GPU's memory; going on with %d.", at_once, at_once // 2)
    return at_once // 2


def compile_groups(network: nn.Module) -> None:
    """Compile each group of `network` in place; names of tensors stay as they are.

    Hooks are guarded: a method that sets them anew for each batch (`sparse`) is then computed right, without a gain.
    """
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    for group in network.children():
        group.compile()


def sum_over_ranks(value: float, machine: Machine, device: torch.device) -> float:
    """Return the sum of `value` over the processes that train one network."""
    if machine.ranks == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total.item())


def sum_gradients(network: nn.Module, machine: Machine) -> None:
    """Replace each gradient by its sum over the processes; a parameter that none of them has a gradient for keeps none.

    Each process has scaled its loss by its share of the batch, so that the sum is the gradient of the whole batch.
    """
    if machine.ranks == 1:
        return
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    holders = torch.tensor([float(each.grad is not None) for each in parameters], device=parameters[0].device)
    distributed.all_reduce(holders)
    reached = [parameter for parameter, count in zip(parameters, holders.tolist(), strict=True) if count]
    flat = torch.cat([(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in reached])
    distributed.all_reduce(flat)
    for parameter, part in zip(reached, torch.split(flat, [each.numel() for each in reached]), strict=True):
        parameter.grad = part.view_as(parameter)


@lru_cache(maxsize=32)
def say_once(sentence: str) -> None:
    """Log `sentence`, once in the life of this process."""
    logger.warning("%s", sentence)
