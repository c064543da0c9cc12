"""Bundles exported once, and a way to have a study predicted with a network that says what a test wants."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from prostafed.client.predict import run
from prostafed.client.predict.run import PredictRequest, predict_site
from prostafed.client.predict.study import Entry
from prostafed.common.bundle.record import Bundle
from prostafed.common.imaging.cases import Image
from tests.client.ingest.tiny_study import GRID
from tests.common.bundle.tiny_bundle import make_bundle, make_study

SECRET = b"s" * 32
Say = Callable[[Image], npt.NDArray[np.float32]]  # image shown to the network -> what it predicts
Predict = Callable[..., Entry]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """For the task lesion, on the grid of the tiny studies."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny-lesion", make_study(grid=GRID))


@pytest.fixture
def predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict the studies below a folder into tmp_path/out; `say` stands in for the network."""

    def call(dicom: Path, bundle: Bundle, say: Say | None = None) -> Entry:
        if say is not None:
            monkeypatch.setattr(run, "_load", lambda request: say)
        return predict_site(PredictRequest(dicom, tmp_path / "out", bundle, SECRET, "cpu", workers=1))

    return call
