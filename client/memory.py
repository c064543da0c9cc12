"""What a site keeps between rounds, on its own disk: every tensor that does not travel, keyed by run,
stage and round.
"""

import re
from pathlib import Path

from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.files import make_folder
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.study import RUN_NAME
from prostafed.common.tensors import Tensors

_ROUND_FILE = re.compile(r"round-(\d+)\.safetensors")


def stage_folder(memory: Path, run: str, stage: int) -> Path:
    """Return the folder of a run's stage; raises ConfigurationError for a run name that could leave `memory`."""
    if not RUN_NAME.fullmatch(run):
        raise ConfigurationError(
            f"The run's name {run!r} is not usable as a folder: letters, digits, '.', '_' and '-' only."
        )
    return memory / run / f"stage-{stage}"


def remember(folder: Path, round_number: int, tensors: Tensors, study_hash: str) -> None:
    """Keep `tensors` as they are after `round_number`; the round before is kept too, so that a round can be asked for
    again.
    """
    make_folder(folder)
    save_checkpoint(folder / f"round-{round_number:05}.safetensors", tensors, {"study_hash": study_hash})
    for number, path in _remembered(folder).items():
        if number < round_number - 1:
            path.unlink()


def recall(folder: Path, round_number: int, study_hash: str) -> Tensors | None:
    """Return what was kept after the last round up to `round_number`, None if nothing was; raises CheckpointError on a
    foreign study.
    """
    rounds = [number for number in _remembered(folder) if number <= round_number]
    if not rounds:
        return None
    tensors, metadata = read_checkpoint(_remembered(folder)[max(rounds)])
    if metadata.get("study_hash") != study_hash:
        raise CheckpointError(f"The memory in {folder} belongs to another study. Start the run under another name.")
    return tensors


def _remembered(folder: Path) -> dict[int, Path]:
    matches = ((_ROUND_FILE.fullmatch(path.name), path) for path in folder.glob("round-*.safetensors"))
    return {int(match[1]): path for match, path in matches if match}
