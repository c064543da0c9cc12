"""What all tests share."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real files, PROSTAFED_DATA or ../shared/data; skips the test where it is absent."""
    folder = Path(os.environ.get("PROSTAFED_DATA", REPOSITORY / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real files in {folder}: set PROSTAFED_DATA to a folder that holds picai_layout/")
    return folder
