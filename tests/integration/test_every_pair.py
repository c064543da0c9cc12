"""Every self-supervised method, followed by every task, runs in a federation: two rounds each, two generated sites."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from prostafed.common.ssl import METHODS
from prostafed.common.study import parse_study
from prostafed.common.tasks import TASKS
from prostafed.simulations.federation.federation_file import PhantomSite
from prostafed.simulations.federation.hospitals import Hospital, prepare_hospital, write_site_folder
from prostafed.simulations.run.engine.local import run_local

PAIRS = list(product(METHODS, TASKS))
EVERY_ROW_AND_COLUMN = [(method, list(TASKS)[number % len(TASKS)]) for number, method in enumerate(METHODS)]


def describe(method: str, task: str) -> str:
    return json.dumps(
        {
            "name": "pair",
            "seed": 2,
            "data": {
                "size": [8, 24, 24],
                "spacing_mm": [6.0, 3.0, 3.0],
                "allow_missing": ["hbv"],
                "validation_fraction": 0.2,
                "test_fraction": 0.3,
            },
            "model": {"width": 4, "resolutions": 3},
            "stage": [
                {"kind": "pretrain", "method": method, "rounds": 2, "batch_size": 4},
                {"kind": "finetune", "task": task, "rounds": 2, "batch_size": 4},
            ],
        }
    )


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> list[Hospital]:
    study, cache = parse_study(describe("conditional", "classify")), tmp_path_factory.mktemp("pairs")
    sites = [PhantomSite(source="phantom", name=name, cases=10) for name in ("north", "south")]
    return [prepare_hospital(site, study, cache, lambda *_: None) for site in sites]


def run_pair(method: str, task: str, hospitals: list[Hospital], folder: Path) -> None:
    study = parse_study(describe(method, task))
    files = [write_site_folder(folder / "sites" / hospital.name, hospital) for hospital in hospitals]
    run_local(study, "run", folder / "run", files)
    rounds = [json.loads(line) for line in (folder / "run" / "rounds.jsonl").read_text().splitlines()]
    assert [(each["stage"], each["round"], each["aggregated"]) for each in rounds] == [
        (stage, number, True) for stage in (1, 2) for number in (1, 2)
    ]
    assert all(sorted(each["replies"]) == ["north", "south"] and not each["rejections"] for each in rounds)
    model = load_file(folder / "run" / "model.safetensors")
    assert {name.split(".")[0] for name in model} == {"encoder"}
    assert all(np.isfinite(array).all() for array in model.values())


@pytest.mark.parametrize(("method", "task"), EVERY_ROW_AND_COLUMN)
def test_every_method_and_every_task_at_least_once(
    method: str, task: str, hospitals: list[Hospital], tmp_path: Path
) -> None:
    run_pair(method, task, hospitals, tmp_path)
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") > 1


@pytest.mark.slow
@pytest.mark.parametrize(("method", "task"), [pair for pair in PAIRS if pair not in EVERY_ROW_AND_COLUMN])
def test_every_other_pair(method: str, task: str, hospitals: list[Hospital], tmp_path: Path) -> None:
    run_pair(method, task, hospitals, tmp_path)
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") > 1
