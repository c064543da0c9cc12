"""Cells of a comparison: a study, varied. Each is a run of its own in a folder of its own; finished ones are not run
again.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import Section, read_toml
from prostafed.common.study import Study, parse_study

Settings = dict[str, Any]  # key of the study, "stage.2.learning_rate" -> value


@dataclass(frozen=True)
class Cell:
    """One variant of a study."""

    settings: Settings
    study: Study

    @property
    def name(self) -> str:
        """Name of its folder: readable, and told apart by the study's hash."""
        said = "-".join(
            f"{key.rpartition('.')[2]}={_plain(value)}" for key, value in self.settings.items() if key != "arms.compare"
        )
        kept = "".join(each if each.isalnum() or each in "=._-" else "_" for each in said)
        return f"{kept[:80]}-{self.study.hash()[:8]}"


class Sweep(Section):
    """A sweep: what is varied, over which study and federation."""

    study: Path = Field(strict=False, description="study file; relative to this one")
    federation: Path = Field(strict=False, description="federation file; relative to this one")
    seeds: int = Field(1, ge=1, description="every cell is run with so many seeds, from the study's own on")
    grid: Mapping[str, tuple[Any, ...]] = Field(
        description='key of the study -> values tried, e.g. "stage.2.learning_rate" = [1e-3, 1e-4]; every combination'
    )


def read_grid(path: Path) -> Sweep:
    """Read a sweep file, with absolute paths; raises ConfigurationError for a mistake."""
    grid = read_toml(path, Sweep)
    folder = path.resolve().parent
    return grid.model_copy(update={"study": folder / grid.study, "federation": folder / grid.federation})


def vary(study: Study, choices: Mapping[str, Sequence[Any]], seeds: int = 1) -> list[Cell]:
    """Return a cell per combination of `choices` and seed, the seed varied last.

    Raises ConfigurationError where a key is none of the study's, or a value is not one it takes.
    """
    keys = [*choices, "seed"]
    values = [*choices.values(), [study.seed + number for number in range(seeds)]]
    return [_cell(study, dict(zip(keys, combination, strict=True))) for combination in itertools.product(*values)]


def _cell(study: Study, settings: Settings) -> Cell:
    varied = json.loads(study.canonical())
    for key, value in settings.items():
        SHORTHANDS.get(key, _set)(varied, key, value)
    return Cell(settings, parse_study(json.dumps(varied)))


def _set(study: Settings, key: str, value: Any) -> None:
    *path, last = key.split(".")
    inner: Any = study
    for part in path:
        try:
            inner = inner[int(part) - 1] if isinstance(inner, list) else inner[part]
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigurationError(
                f"The study has no '{key}': there is no {part}. Name a key of the study."
            ) from error
    if not isinstance(inner, dict):
        raise ConfigurationError(f"The study has no '{key}'. Stages are named by number: stage.1.{last}.")
    inner[last] = value
    for depending in DEPENDING.get(last, ()):  # those of the method or aggregator before
        inner.pop(depending, None)


def _set_start(study: Settings, key: str, value: Any) -> None:
    """Set where the encoder of the supervised stages starts."""
    if value not in STARTS:
        raise ConfigurationError(f"start is '{value}', expected one of {', '.join(STARTS)}.")
    if value == "random":
        study["stage"] = [stage for stage in study["stage"] if stage["kind"] == "finetune"]
    for stage in study["stage"]:
        if stage["kind"] == "pretrain" and value == "local-ssl":
            stage["share"] = []
    if not study["stage"]:
        raise ConfigurationError("start = 'random' leaves out pretraining, and the study has no other stage. Add one.")


def _set_labels(study: Settings, key: str, value: Any) -> None:
    for stage in study["stage"]:
        if stage["kind"] == "finetune":
            stage["labels"] = value


DEPENDING = {"method": ("parameters", "share"), "aggregate": ("aggregate_parameters",)}
STARTS = ("random", "local-ssl", "federated-ssl")
SHORTHANDS: dict[str, Callable[[Settings, str, Any], None]] = {"start": _set_start, "labels": _set_labels}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
