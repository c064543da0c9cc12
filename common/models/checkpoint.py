"""Tensors on disk: safetensors with string metadata, written atomically, loaded strictly, with a report of what was
loaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import nn

from prostafed.common.errors import CheckpointError
from prostafed.common.files import replacing
from prostafed.common.tensors import Tensors, group_of, write_tensors


@dataclass(frozen=True)
class LoadReport:
    """What a checkpoint gave a network: tensors loaded per group, groups left as they were, and the file's metadata."""

    loaded: dict[str, int]
    kept: tuple[str, ...]
    metadata: dict[str, str]


def save_checkpoint(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata` to `path`, atomically; equal input gives equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with replacing(path) as temporary:
        # One key: safetensors writes several in an order that changes from run to run.
        save_file(contiguous, temporary, {"prostafed": json.dumps(dict(metadata), sort_keys=True)})


def read_checkpoint(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors and metadata of `path`; raises CheckpointError where it is not a whole safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("prostafed", "{}"))
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, metadata
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint. Name a .safetensors file that a run wrote."
        ) from error


def load_checkpoint(network: nn.Module, path: Path) -> LoadReport:
    """Load the groups that `path` holds into `network`, each whole; raises CheckpointError if a group does not fit
    exactly.
    """
    tensors, metadata = read_checkpoint(path)
    write_tensors(network, tensors)
    loaded: dict[str, int] = {}
    for name in tensors:
        loaded[group_of(name)] = loaded.get(group_of(name), 0) + 1
    kept = sorted({group_of(name) for name in network.state_dict()} - set(loaded))
    return LoadReport(loaded, tuple(kept), metadata)
