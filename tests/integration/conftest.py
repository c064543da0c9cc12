"""One tiny federation of two generated hospitals, and what a study gives on it in this process."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from prostafed.common.study import Study, read_study
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital, write_site_folder

from .deployment import Deployment

STUDY = """
name = "tiny"
seed = 3
[data]
size = [8, 32, 32]
spacing_mm = [6.0, 2.0, 2.0]
validation_fraction = 0.25
test_fraction = 0.25
[model]
width = 4
resolutions = 3
[[stage]]
kind = "pretrain"
method = "conditional"
rounds = 1
batch_size = 2
[[stage]]
kind = "finetune"
task = "lesion"
rounds = 1
batch_size = 2
[round]
quorum = 2
deadline_s = 300.0
"""


@dataclass(frozen=True)
class TinyFederation:
    study_file: Path
    study: Study
    hospitals: tuple[Hospital, ...]

    def write_sites(self, folder: Path) -> tuple[Path, ...]:
        """Write a site folder per hospital, with its own memory and one thread: one order of sums on every engine.
        No noise that can be repeated: they also stand for hospitals of a deployment.
        """
        files = tuple(write_site_folder(folder / hospital.name, hospital) for hospital in self.hospitals)
        for file in files:
            file.write_text("threads = 1\n" + file.read_text().replace("noise_seed = 0\n", ""))
        return files


@pytest.fixture(scope="session")
def tiny_federation(tmp_path_factory: pytest.TempPathFactory) -> TinyFederation:
    cache = tmp_path_factory.mktemp("cache")
    study_file = cache / "study.toml"
    study_file.write_text(STUDY)
    study = read_study(study_file)
    sites = [PhantomSite(source="phantom", name=name, cases=8) for name in ("north", "south")]
    hospitals = tuple(prepare_hospital(site, study, cache, lambda site, done, count: None) for site in sites)
    return TinyFederation(study_file, study, hospitals)


@pytest.fixture(scope="session")
def local_run(tiny_federation: TinyFederation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study's run on the engine "local"."""
    from prostafed.simulations.run.engine.local import run_local

    folder, threads = tmp_path_factory.mktemp("local"), torch.get_num_threads()
    run_local(tiny_federation.study, "tiny", folder / "run", tiny_federation.write_sites(folder / "sites"))
    torch.set_num_threads(threads)
    return folder / "run"


def assert_same_result(run: Path, expected: Path) -> None:
    """Compare the final tensors and every metric of two runs of the same study."""
    tensors, expected_tensors = load_file(run / "model.safetensors"), load_file(expected / "model.safetensors")
    assert tensors.keys() == expected_tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_allclose(array, expected_tensors[name], rtol=1e-4, atol=1e-5, err_msg=name)
    metrics, expected_metrics = read_metric_values(run), read_metric_values(expected)
    assert metrics.keys() == expected_metrics.keys()
    for key, value in metrics.items():
        assert value == pytest.approx(expected_metrics[key], rel=1e-4, abs=1e-6), key


def read_metric_values(run: Path) -> dict[tuple[str, ...], float]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        tuple(row[key] for key in ("stage", "round", "site", "split", "metric")): float(row["value"]) for row in rows
    }


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path)
    try:
        yield deployment
    finally:
        try:
            deployment.end()
        finally:
            for log in sorted(tmp_path.rglob("*.log")):  # pytest shows them where the test failed
                print(f"== {log.relative_to(tmp_path)}", *log.read_text(errors="replace").splitlines()[-30:], sep="\n")
