"""The cells of the label-budget study: what they are made from, and how finished ones are kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prostafed.common.errors import ConfigurationError
from prostafed.common.imaging.cases import Grid
from prostafed.common.shell.files import write_text
from prostafed.simulations.experiments.label_curve import LEARNING_RATE, STAGES, WEIGHT_DECAY, WIDTH


@dataclass(frozen=True)
class Parameters:
    """Everything the study's figures depend on."""

    starts: tuple[str, ...]
    seeds: int
    percents: tuple[int, ...]
    cases: int
    test_cases: int
    steps: int
    rounds: int
    epochs: int = 2  # per round of pretraining
    weights_sha256: str = ""
    spacing_mm: tuple[float, float, float] = (5.4, 2.6, 2.6)
    size: tuple[int, int, int] = (8, 28, 28)
    batch_size: int = 10
    width: int = WIDTH
    stages: int = STAGES
    learning_rate: float = LEARNING_RATE
    weight_decay: float = WEIGHT_DECAY
    images: str = "generated"

    @property
    def grid(self) -> Grid:
        """The voxels of every case."""
        return Grid(self.spacing_mm, self.size)

    def hash(self) -> str:
        """Return the SHA-256 of the parameters as JSON with sorted keys, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class BudgetCell:
    """One training: its start, its labels, its test AUROC."""

    start: str
    seed: int
    percent: int
    labelled_cases: int
    labelled_cspca: int
    auroc: float
    config: str  # hash of the Parameters


def read_cells(path: Path, config: str) -> list[BudgetCell]:
    """Return the finished cells in `path`, none where it does not exist; raises ConfigurationError where they are of
    other parameters.
    """
    if not path.exists():
        return []
    cells = [BudgetCell(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    for cell in cells:
        if cell.config != config:
            raise ConfigurationError(
                f"{path} holds cells of the parameters {cell.config[:12]}, this study has {config[:12]}. Give the "
                "parameters of before, or another --out."
            )
    return cells


def write_cells(path: Path, cells: Sequence[BudgetCell]) -> None:
    """Write one JSON line per cell, atomically."""
    write_text(path, "".join(json.dumps(asdict(cell)) + "\n" for cell in cells))
