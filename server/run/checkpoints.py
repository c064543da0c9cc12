"""Where a run stands, on disk after every round: everything the next round needs, so that a resumed run is the run that
was never interrupted.

There is no state of a random generator: everything random derives from (study seed, stage, round, site, purpose). What
a site keeps lies on that site's own disk, under the run's name, stage and round; a checkpoint refers to it by these.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from prostafed.common.errors import CheckpointError
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.tensors import Tensors
from prostafed.server.exchange.admission import History

FILE = "checkpoint.safetensors"
_GLOBAL, _MEMORY = "global/", "memory/"


@dataclass(frozen=True)
class RunState:
    """After the last round that is complete on disk: stage and round count from 1, 0 before the first."""

    stage: int = 0
    round: int = 0
    tensors: Tensors = field(default_factory=dict)  # global
    memory: Tensors = field(default_factory=dict)  # the aggregator's: optimiser moments, control variates
    history: History = field(default_factory=History)
    rejected: Mapping[str, int] = field(default_factory=dict)  # site -> rejections in a row


def write_run_state(folder: Path, state: RunState, study_hash: str, ledger: int) -> None:
    """Write the checkpoint that says: this round is complete. `ledger` is the number of lines the ledger has."""
    tensors = {f"{_GLOBAL}{name}": array for name, array in state.tensors.items()}
    tensors |= {f"{_MEMORY}{name}": array for name, array in state.memory.items()}
    metadata = {
        "study_hash": study_hash,
        "stage": str(state.stage),
        "round": str(state.round),
        "history": json.dumps(asdict(state.history), sort_keys=True),
        "rejected": json.dumps(dict(state.rejected), sort_keys=True),
        "ledger": str(ledger),
    }
    save_checkpoint(folder / FILE, tensors, metadata)


def read_run_state(folder: Path, study_hash: str, ledger: int | None = None) -> RunState:
    """Return where the run of `folder` stands, before its first round where there is no checkpoint.

    Raises CheckpointError for another study's, a damaged one, or a `ledger` with fewer than the lines it names.
    """
    if not (folder / FILE).exists():
        return RunState()
    tensors, metadata = read_checkpoint(folder / FILE)
    if metadata.get("study_hash") != study_hash:
        raise CheckpointError(f"{folder / FILE} belongs to another study. Choose another folder, or restore the file.")
    try:
        history = json.loads(metadata["history"])
        seen = {site: tuple(prints) for site, prints in history["fingerprints"].items()}
        written, stage, round_number = (int(metadata[name]) for name in ("ledger", "stage", "round"))
        state = RunState(
            stage,
            round_number,
            _under(tensors, _GLOBAL),
            _under(tensors, _MEMORY),
            History({group: tuple(norms) for group, norms in dict(history["norms"]).items()}, seen),
            json.loads(metadata["rejected"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / FILE} is not a checkpoint of this release. Restore the file.") from error
    if ledger is not None and ledger < written:
        raise CheckpointError(
            f"{folder}: the ledger has {ledger} lines, the checkpoint knows of {written}. Restore it from a copy."
        )
    return state


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
