"""Calibration studies, one per style, written once for all tests that look at them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from prostafed.client.ingest.records import DicomStudy
from prostafed.client.ingest.scan.headers import read_studies
from prostafed.simulations.dicom.styles import STYLES
from tests.simulations.dicom.calibration_study import Calibration, write_calibration_study


@pytest.fixture(scope="session")
def calibrate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Calibration]:
    """Write a calibration study of a style; equal arguments share one."""

    @cache
    def write(style: str, **settings: object) -> Calibration:
        return write_calibration_study(tmp_path_factory.mktemp(style), style, **settings)  # type: ignore[arg-type]

    return write


@pytest.fixture(scope="session", params=STYLES)
def calibration(request: pytest.FixtureRequest, calibrate: Callable[..., Calibration]) -> Calibration:
    """The noise-free study of each style."""
    written: Calibration = calibrate(request.param)
    return written


@pytest.fixture(scope="session")
def style(calibration: Calibration) -> str:
    """The name of the style `calibration` is in."""
    return next(name for name in STYLES if calibration.folder.parent.name.startswith(name))


@pytest.fixture(scope="session")
def read_study() -> Callable[[Path], DicomStudy]:
    """Read the one study below a folder, as ingestion does."""

    @cache
    def read(folder: Path) -> DicomStudy:
        (study,), findings = read_studies(folder, workers=1)
        assert findings == []
        return study

    return read
