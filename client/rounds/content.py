"""What is in an update that waits in the outbox: read from where the site keeps its answers."""

from pathlib import Path
from typing import Any

import numpy as np

from prostafed.client.gate.outbox import read_outbox
from prostafed.client.rounds.memory import read_answer, stage_folder
from prostafed.common.errors import ConfigurationError
from prostafed.common.tensors import hash_tensors


def describe_content(folder: Path, memory: Path, number: int) -> dict[str, Any]:
    """Return the entry `number` of the outbox in `folder`, with "content": of each tensor name, dtype, shape and
    Euclidean norm, and "figures": each metric.

    Raises ConfigurationError where there is no such entry, or the site does not keep what it tells of any more.
    """
    entry = next((each for each in read_outbox(folder) if each.number == number), None)
    if entry is None or "sha256" not in entry.line:
        raise ConfigurationError(f"The outbox has no answer with number {number}. prostafed-site outbox lists them.")
    line = entry.line
    kept = read_answer(stage_folder(memory, line["run"], line["stage"]), line["round"])
    if kept is None or hash_tensors(kept[0]) != line["sha256"]:
        raise ConfigurationError(
            f"The content of answer {number} is not kept here any more: a site keeps the last update of each stage."
        )
    tensors, about = kept
    content = [
        {
            "name": name,
            "dtype": str(array.dtype),
            "shape": list(array.shape),
            "norm": float(np.linalg.norm(array.astype(np.float64).reshape(-1))),
        }
        for name, array in sorted(tensors.items())
    ]
    return {**entry.as_json(), "content": content, "figures": about["metrics"]}
