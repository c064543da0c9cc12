"""What trackers are told, and that one that fails ends no run."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from prostafed.server.run import trackers
from prostafed.server.run.trackers import name_figures
from tests.server.run.test_stages import STUDY, Sites, run, stop_at

RECORD = {
    "stage": 2,
    "round": 1,
    "seconds": 1.5,
    "bytes_up": 10,
    "bytes_down": 20,
    "replies": ["north"],
    "rejections": [],
    "diagnostics": {"update_norm": 0.5},
    "norms": {"north": 0.7},
}
ROWS = [
    {"split": "validation", "metric": "auroc", "site": "north", "value": 0.75},
    {"split": "validation", "metric": "auroc_low", "site": "north", "value": 0.5},
]


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_figures_are_named_by_stage_kind_and_site() -> None:
    assert name_figures(RECORD, ROWS) == {
        "stage-2/round/seconds": 1.5,
        "stage-2/round/bytes_up": 10.0,
        "stage-2/round/bytes_down": 20.0,
        "stage-2/round/replies": 1.0,
        "stage-2/round/rejections": 0.0,
        "stage-2/round/update_norm": 0.5,
        "stage-2/update_norm/north": 0.7,
        "stage-2/validation/auroc/north": 0.75,
    }


def test_tensorboard_has_every_round_once_after_a_resumption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Sites(stop_at(2, 2)))
    run(tmp_path, Sites())
    events = read_events(tmp_path / "tensorboard")
    assert [step for step, _ in events["stage-1/train/loss/north"]] == [1, 2]
    assert [step for step, _ in events["stage-2/train/loss/north"]] == [3, 4, 5]
    assert events["stage-2/test/auroc/south"] == [(5, 0.75)]


class Failing:
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        raise OSError("the disk of another program is full")

    def close(self) -> None:
        raise AssertionError("what has failed is not asked again")


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object) -> None:
        raise ImportError("no such program")

    monkeypatch.setattr(trackers, "TRACKERS", {"failing": lambda *_: Failing(), "absent": refuse})
    run(tmp_path, Sites())
    assert caplog.messages == [
        "absent is left out: no such program",
        "failing is left out from round 1 on: the disk of another program is full",
    ]


def test_mlflow_is_told_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'prostafed[mlflow]'")
    assert not os.environ.get("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Sites(stop_at(2, 2)))
    run(tmp_path / "run", Sites())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("prostafed").experiment_id])
    history = client.get_metric_history(found.info.run_id, "stage-2/train/loss/north")
    assert [each.step for each in history] == [3, 4, 5]
    assert found.data.params["study_hash"] == STUDY.hash()
    assert found.info.status == "FINISHED"
