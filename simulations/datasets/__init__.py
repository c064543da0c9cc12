"""The DATASETS table: importers of public prostate MRI sets, one file each. An importer is loaded when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Never, Protocol, cast

from prostafed.common.errors import ConfigurationError, DataError, nearest
from prostafed.common.imaging.cases import CaseRecord, Grid, Image, Masks


@dataclass(frozen=True)
class DatasetEntry:
    """One line of the table: the module and function that import the set, and where a person gets it."""

    module: str
    function: str
    origin: str


DATASETS: dict[str, DatasetEntry] = {
    "picai": DatasetEntry(
        "picai", "import_picai", "images: zenodo.org/record/6624726, labels: github.com/DIAGNijmegen/picai_labels"
    ),
}


class Importer(Protocol):
    """Reads a public set from `root`, case by case and in a stable order; nothing is downloaded.

    A mistake in a table raises DataError at the call. One study that cannot be used goes to `on_error`: what that
    raises ends the import, and if it returns the study is left out.
    """

    def __call__(
        self,
        root: Path,
        grid: Grid,
        sequences: tuple[str, ...],
        centers: tuple[str, ...] = (),
        on_error: Callable[[DataError], None] = ...,
    ) -> Iterator[tuple[CaseRecord, Image, Masks]]:
        """Yield record, image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8; no `centers` means all."""


def load_importer(name: str) -> Importer:
    """Return the importer DATASETS lists under `name`; raises ConfigurationError for another name."""
    if name not in DATASETS:
        raise ConfigurationError(f"unknown dataset '{name}'{nearest(name, DATASETS)}")
    entry = DATASETS[name]
    return cast("Importer", getattr(import_module(f"prostafed.simulations.datasets.{entry.module}"), entry.function))


def stop(error: DataError) -> Never:
    """Raise the error of a study: the default `on_error`."""
    raise error
