"""One exported bundle for all tests that read it; who changes it copies it first."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prostafed.common.bundle.record import Bundle
from tests.common.bundle.tiny_bundle import make_bundle, make_study


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny-lesion", make_study(allow_missing=["hbv"]))


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Callable[[], Path]:
    return lambda: shutil.copytree(bundle.folder, tmp_path / "tiny-lesion")
