"""Named tensors: model parameters as a mapping from name to array, `group.module.parameter`. Never a
positional list.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from prostafed.common.errors import CheckpointError

Tensors = dict[str, npt.NDArray[Any]]
BLOCK = 1 << 16  # values worked on at once: temporaries stay in the processor's cache


def group_of(name: str) -> str:
    """Return the group a tensor belongs to: "encoder" for "encoder.stages.0.conv.weight"."""
    return name.split(".", 1)[0]


def select_groups(tensors: Mapping[str, npt.NDArray[Any]], groups: Iterable[str]) -> Tensors:
    """Return the tensors of `groups`, sorted by name."""
    wanted = set(groups)
    return {name: tensors[name] for name in sorted(tensors) if group_of(name) in wanted}


def read_tensors(network: nn.Module) -> Tensors:
    """Return copies of the network's tensors as arrays, sorted by name."""
    state = network.state_dict()
    return {name: np.array(state[name].detach().cpu().numpy()) for name in sorted(state)}


def write_tensors(network: nn.Module, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Load `tensors`, which may be some of the network's groups; raises CheckpointError where a group does not fit
    exactly.
    """
    state = network.state_dict()
    groups = {group_of(name) for name in tensors}
    expected = {name: state[name].numpy(force=True) for name in state if group_of(name) in groups}
    check_layout(expected, tensors)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}, strict=False)


def check_layout(expected: Mapping[str, npt.NDArray[Any]], found: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise CheckpointError, naming the first differences, unless names, shapes and dtypes agree."""
    differences = [f"{name} is missing" for name in expected if name not in found]
    differences += [f"{name} is not part of the model" for name in found if name not in expected]
    differences += [
        f"{name} is {found[name].dtype}{list(found[name].shape)}, expected {array.dtype}{list(array.shape)}"
        for name, array in expected.items()
        if name in found and (found[name].shape, found[name].dtype) != (array.shape, array.dtype)
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"The tensors do not fit the study's model: {'; '.join(differences[:3])}{more}. "
            "They were made for another study; check the model and data sections."
        )


def count_bytes(tensors: Mapping[str, npt.NDArray[Any]]) -> int:
    """Return the bytes of all arrays."""
    return sum(array.nbytes for array in tensors.values())


def hash_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, in hexadecimal: equal models have equal ones."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name], order="C")
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def cut(size: int) -> Iterator[slice]:
    """Yield the blocks of a flat array of `size` values."""
    for start in range(0, size, BLOCK):
        yield slice(start, min(start + BLOCK, size))
