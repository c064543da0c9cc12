"""What a site keeps on its own disk, by run, stage and round: the state between rounds, the last answer, and a round in
the making.

Every file is written whole or not at all, and names the study it belongs to. No state of a random generator is kept
between rounds: seeds derive from (study seed, stage, round, site).
"""

import json
import logging
import pickle
import re
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.shell.files import make_folder, write_bytes
from prostafed.common.study import RUN_NAME
from prostafed.common.tensors import Tensors

_ENDINGS, _TAKEN = (".json", ".lock", ".key", ".pub"), ("told", "signed")  # what lies beside the runs
_ROUND_FILE = re.compile(r"round-(\d+)\.safetensors")

logger = logging.getLogger("prostafed.site")


@dataclass(frozen=True)
class Memory:
    """What a site keeps after a round of a stage."""

    tensors: Tensors = field(default_factory=dict)  # of the network, all that does not travel
    personal: Tensors = field(default_factory=dict)  # a network of the site's own, whole (Ditto)
    rule: Tensors = field(default_factory=dict)  # of the aggregator's rule: control variates, drift, own predictor
    optimiser: Tensors = field(default_factory=dict)  # where the study keeps it
    residual: Tensors = field(default_factory=dict)  # what compression left out so far
    scaler: Tensors = field(default_factory=dict)  # float16's loss scale, by phase


def stage_folder(memory: Path, run: str, stage: int) -> Path:
    """Return the folder of a run's stage; raises ConfigurationError for a run name that could leave `memory`."""
    if not RUN_NAME.fullmatch(run) or run.endswith(_ENDINGS) or run in _TAKEN:
        raise ConfigurationError(
            f"The run's name {run!r} is not usable as a folder: letters, digits, '.', '_' and '-' only, and no name of "
            "a file or folder that the site keeps there."
        )
    return memory / run / f"stage-{stage}"


def remember(folder: Path, round_number: int, memory: Memory, study_hash: str) -> None:
    """Keep `memory` as it is after `round_number`; what the round started from stays, as long as it has no answer."""
    make_folder(folder)
    tensors = {
        (name if part.name == "tensors" else f"{part.name}/{name}"): array
        for part in fields(memory)
        for name, array in getattr(memory, part.name).items()
    }
    save_checkpoint(_round_file(folder, round_number), tensors, {"study_hash": study_hash})


def recall(folder: Path, round_number: int, study_hash: str) -> Memory | None:
    """Return what was kept after the last round up to `round_number`, None if nothing was; raises CheckpointError on a
    foreign study.
    """
    remembered = _remembered(folder)
    rounds = [number for number in remembered if number <= round_number]
    if not remembered:
        return None
    tensors, metadata = read_checkpoint(remembered[max(rounds, default=max(remembered))])
    if metadata.get("study_hash") != study_hash:
        raise CheckpointError(f"The memory in {folder} belongs to another study. Start the run under another name.")
    if not rounds:
        return None
    parts: dict[str, Tensors] = {part.name: {} for part in fields(Memory)}
    for name, array in tensors.items():
        part, found, rest = name.partition("/")
        if found:
            parts[part][rest] = array
        else:
            parts["tensors"][name] = array
    return Memory(**parts)


def keep_answer(folder: Path, reply: Reply, digest: str) -> None:
    """Keep the answer to a request whose sent tensors have `digest`; answers of other rounds are removed, and what is
    remembered but the last two rounds: this one, and the one it started from, however long ago, so that it can be asked
    for again.
    """
    about = {"cases": reply.cases, "metrics": reply.metrics, "site": reply.site}
    path = _answer_file(folder, reply.round)
    metadata = {"study_hash": reply.study_hash, "digest": digest, "reply": json.dumps(about)}
    save_checkpoint(path, reply.tensors, metadata)
    for other in folder.glob("answer-*.safetensors"):
        if other != path:
            other.unlink()
    remembered = _remembered(folder)
    for number in sorted(number for number in remembered if number <= reply.round)[:-2]:
        remembered[number].unlink()


def find_answer(folder: Path, request: Request, digest: str) -> Reply | None:
    """Return the answer that was given to this very request, whose tensors have `digest`; None if there is none yet."""
    path = _answer_file(folder, request.round)
    if not path.is_file():
        return None
    tensors, metadata = read_checkpoint(path)
    if (metadata.get("study_hash"), metadata.get("digest")) != (request.study_hash, digest):
        return None
    about = json.loads(metadata["reply"])
    return Reply(about.pop("site"), request.study_hash, request.stage, request.round, tensors=tensors, **about)


def read_answer(folder: Path, round_number: int) -> tuple[Tensors, dict[str, Any]] | None:
    """Return the tensors of the answer that is kept of a round, and its cases, metrics and site; None where none is."""
    path = _answer_file(folder, round_number)
    if not path.is_file():
        return None
    tensors, metadata = read_checkpoint(path)
    return tensors, json.loads(metadata["reply"])


def save_partial(folder: Path, round_number: int, partial: dict[str, Any]) -> None:
    """Keep a round in the making: tensors, numbers and texts in dictionaries and lists."""
    content = BytesIO()
    torch.save(partial, content)
    write_bytes(_partial_file(folder, round_number), content.getvalue())


def find_partial(folder: Path, round_number: int) -> dict[str, Any] | None:
    """Return the round in the making, with tensors on the CPU, None where there is none that can be read."""
    path = _partial_file(folder, round_number)
    try:
        partial = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(partial, dict):
            return partial
        raise ValueError("expected a dictionary")
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        logger.warning("The round in the making, %s, cannot be read; the round starts from its beginning.", path)
        return None


def tidy(folder: Path, round_number: int = 0) -> None:
    """Remove rounds in the making other than `round_number`, and temporary files a killed process left."""
    kept = _partial_file(folder, round_number)
    for path in [*folder.glob("partial-*.pt"), *folder.glob(".*.part")]:
        if path != kept:
            path.unlink(missing_ok=True)


def _round_file(folder: Path, round_number: int) -> Path:
    return folder / f"round-{round_number:05}.safetensors"


def _answer_file(folder: Path, round_number: int) -> Path:
    return folder / f"answer-{round_number:05}.safetensors"


def _partial_file(folder: Path, round_number: int) -> Path:
    return folder / f"partial-{round_number:05}.pt"


def _remembered(folder: Path) -> dict[int, Path]:
    matches = ((_ROUND_FILE.fullmatch(path.name), path) for path in folder.glob("round-*.safetensors"))
    return {int(match[1]): path for match, path in matches if match}
