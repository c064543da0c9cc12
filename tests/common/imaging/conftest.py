"""Small volumes with known geometry."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk


class MakeVolume(Protocol):
    def __call__(
        self,
        voxels: npt.NDArray[Any],
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
        axes: npt.NDArray[np.float64] | None = None,
    ) -> sitk.Image: ...


@pytest.fixture(scope="session")
def make_volume() -> MakeVolume:
    """Voxels (z, y, x), spacing (z, y, x), origin (x, y, z), axes in columns x, y, z -> image."""

    def make(
        voxels: npt.NDArray[Any],
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
        axes: npt.NDArray[np.float64] | None = None,
    ) -> sitk.Image:
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing([float(step) for step in spacing_mm[::-1]])
        image.SetOrigin([float(value) for value in origin_mm])
        if axes is not None:
            image.SetDirection(axes.ravel().tolist())
        return image

    return make


@pytest.fixture(scope="session")
def tilted_axes() -> npt.NDArray[np.float64]:
    """Axes of an oblique scan: tilted 20 degrees about x, then 10 about z."""
    c, s = math.cos(math.radians(20)), math.sin(math.radians(20))
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = math.cos(math.radians(10)), math.sin(math.radians(10))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ tilt
