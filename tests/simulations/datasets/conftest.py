"""Each public set in its layout, written once per session, and a writer for tests that break one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulations.datasets import layouts
from tests.simulations.dicom.calibration_study import Calibration, write_calibration_study


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """A generated Siemens study with tubes of known ADC and zones of known place."""
    return write_calibration_study(tmp_path_factory.mktemp("calibration"), "siemens")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory, calibration: Calibration) -> Callable[[str], Path]:
    """The root of a set by its name in DATASETS; not to be changed."""
    folder = tmp_path_factory.mktemp("layouts")

    def write(name: str) -> Path:
        root = folder / name
        if not root.exists():
            root.mkdir()
            writer = layouts.find_writer(name)
            writer(root, calibration) if layouts.is_dicom(name) else writer(root)
        return root

    return write


@pytest.fixture
def copied(written: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a set that the test may break."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(written(name), tmp_path / name))

    return copy
