"""The DATASETS table: public prostate MRI sets, one file each, which a set's name loads when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from prostafed.common.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from prostafed.simulations.datasets.dataset import Dataset

DATASETS = {  # name, the `source` of a federation file -> module that ends with DATASET
    "picai": "prostafed.simulations.datasets.picai",
    "prostatex": "prostafed.simulations.datasets.prostatex",
    "prostate158": "prostafed.simulations.datasets.prostate158",
    "msd": "prostafed.simulations.datasets.msd",
    "promise12": "prostafed.simulations.datasets.promise12",
    "nci-isbi": "prostafed.simulations.datasets.nci_isbi",
}


def load_dataset(name: str) -> Dataset:
    """Return the set DATASETS lists under `name`; raises ConfigurationError for another name, or a wrong entry."""
    if name not in DATASETS:
        raise ConfigurationError(f"unknown dataset '{name}'{nearest(name, DATASETS)}")
    try:
        dataset: Dataset | None = getattr(import_module(DATASETS[name]), "DATASET", None)
        found = f"that of '{dataset.name}'" if dataset else "none"
    except ImportError as error:
        dataset, found = None, str(error)
    if dataset is None or dataset.name != name:
        raise ConfigurationError(
            f"dataset '{name}': expected DATASET of that name in {DATASETS[name]}, found {found}. Correct the entry."
        )
    return dataset
