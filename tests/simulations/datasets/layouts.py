"""What the layouts of public sets are made of: one phantom of 8 x 40 x 40 voxels, or generated DICOM. The layout of a
set is written by `write` in the test of its module.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
import SimpleITK as sitk

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import Grid
from prostafed.simulations.datasets import DATASETS, load_dataset
from prostafed.simulations.datasets.dataset import import_cases, stop
from prostafed.simulations.datasets.study import Case, Selection

GRID = Grid((3.0, 1.0, 1.0), (6, 24, 24))
DICOM_GRID = Grid((3.0, 1.0, 1.0), (20, 72, 72))  # holds the calibration object's gland
SEQUENCES = ("t2w", "adc", "hbv")
SIZE = (8, 40, 40)


def load(
    name: str,
    root: Path,
    grid: Grid = GRID,
    sequences: tuple[str, ...] = SEQUENCES,
    on_error: Callable[[DataError], None] = stop,
    **options: Any,
) -> Iterator[Case]:
    """The cases of the set below `root`; `options` are those of a Selection."""
    return import_cases(load_dataset(name), Selection(root, grid, sequences, **options), on_error)


def make_masks(lesion: bool = True) -> dict[str, np.ndarray]:
    """Gland, zones (1 = PZ behind, 2 = TZ before) and a lesion in the PZ, (z, y, x) uint8: PZ the smaller."""
    z, y, x = np.meshgrid(*(np.arange(size) - (size - 1) / 2 for size in SIZE), indexing="ij")
    gland = (z / 3) ** 2 + (y / 9) ** 2 + (x / 10) ** 2 <= 1
    zones = np.where(gland, np.where(y > 3, 1, 2), 0)
    tumour = gland & (abs(z) < 1) & (y > 3) & (x > 1) & (x < 7)
    return {"gland": gland * 1, "zones": zones, "lesion": tumour * int(lesion)}


def make_images(seed: int = 0, lesion: bool = True) -> dict[str, np.ndarray]:
    """The three sequences, (z, y, x) float32, each voxel by its tissue, with noise that differs by `seed`."""
    rng, masks = np.random.default_rng(seed), make_masks(lesion)
    images = {}
    for name, (around, pz, tz, tumour) in {
        "t2w": (150, 600, 350, 200),
        "adc": (1000, 1700, 1300, 700),
        "hbv": (40, 60, 50, 110),
    }.items():
        values = np.choose(masks["zones"], (around, pz, tz)).astype(np.float32)
        values[masks["lesion"] > 0] = tumour
        images[name] = values + rng.normal(0, 0.1 * around, SIZE).astype(np.float32)
    return images


def save(path: Path, voxels: np.ndarray, step_mm: float = 3.0, first_mm: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels, isVector=False)
    image.SetSpacing((1.0, 1.0, step_mm, 1.0)[: image.GetDimension()])
    image.SetOrigin((-20.0, -30.0, first_mm, 0.0)[: image.GetDimension()])
    sitk.WriteImage(image, str(path))


def find_writer(name: str) -> Callable[..., None]:
    """`write(root)` of the set's own test, or `write(root, study)` where the set is DICOM, of a generated study."""
    module = DATASETS[name].rpartition(".")[2]
    return cast("Callable[..., None]", import_module(f"tests.simulations.datasets.test_{module}").write)


def is_dicom(name: str) -> bool:
    return len(signature(find_writer(name)).parameters) > 1
