"""Tensors on disk: safetensors with string metadata, written atomically, read strictly."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.files import write_bytes
from prostafed.common.tensors import Tensors

LEFT_OUT = "left_out"  # in a model's metadata: JSON list of the tensors that nobody trained, which it does not hold


def save_checkpoint(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write `tensors` and `metadata` to `path`, atomically; equal input gives equal bytes."""
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # One key: safetensors writes several in an order that changes from run to run.
    write_bytes(path, save(contiguous, {"prostafed": json.dumps(dict(metadata), sort_keys=True)}))


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


def list_left_out(path: Path, metadata: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the network's tensors that a model, read from `path`, says it does not hold since the run
    that wrote it did not train them; raises CheckpointError where its `metadata` are damaged.
    """
    try:
        names = json.loads(metadata.get(LEFT_OUT, "[]"))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path} is not a readable checkpoint: what it left out is no list of names.")
    return frozenset(names)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict that torch or safetensors saved; raises CheckpointError where `path` is none.

    Nothing but tensors is unpickled.
    """
    if path.suffix == ".safetensors":
        return {name: torch.from_numpy(array) for name, array in read_checkpoint(path)[0].items()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a readable state dict. Name a .pth or .safetensors file.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path} holds other things than named tensors. Save the network's state_dict() alone and name that file."
        )
    return state
