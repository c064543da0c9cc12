"""One tiny simulation of two generated hospitals, run once for all tests that look at it."""

from pathlib import Path

import pytest

from prostafed.common.study import Study, parse_study
from prostafed.simulations.federation.federation_file import Federation, PhantomSite
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation

STUDY = """{
    "name": "tiny", "seed": 3,
    "data": {"size": [8, 24, 24], "spacing_mm": [6.0, 3.0, 3.0], "validation_fraction": 0.2, "test_fraction": 0.3},
    "model": {"width": 4, "resolutions": 3},
    "stage": [
        {"kind": "pretrain", "method": "conditional", "rounds": 2, "batch_size": 4},
        {"kind": "finetune", "task": "lesion", "rounds": 2, "batch_size": 4}
    ],
    "arms": {"compare": ["local", "pooled"]}
}"""


@pytest.fixture(scope="session")
def study() -> Study:
    return parse_study(STUDY)


@pytest.fixture(scope="session")
def federation() -> Federation:
    return Federation(site=tuple(PhantomSite(source="phantom", name=name, cases=10) for name in ("north", "south")))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def finished_run(study: Study, federation: Federation, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that went to its end."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run_simulation(Simulation(study, federation, out, cache), resume=False, watchers=Watchers())
    return out
