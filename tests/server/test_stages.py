"""The loop over stages and rounds, with sites that only add: resume, quorum, records."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.common.errors import CheckpointError, RoundError
from prostafed.common.messages import Reply, Request
from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.common.study import Study, parse_study
from prostafed.common.tensors import group_of
from prostafed.server.rounds import Exchange
from prostafed.server.run_folder import open_run, read_metrics, read_rounds
from prostafed.server.stages import run_stages

STUDY = parse_study(
    """{"name": "tiny", "seed": 3, "data": {"size": [4, 8, 8], "spacing_mm": [3.0, 2.0, 2.0]},
        "model": {"width": 2, "stages": 2}, "round": {"quorum": 2},
        "stage": [{"kind": "pretrain", "rounds": 2},
                  {"kind": "finetune", "task": "classify", "rounds": 3, "evaluate_every": 2}]}"""
)
SITES = ["north", "south"]


class Sites:
    """Two sites that add 1 and 3 to every tensor; `before` may stop the run or lose a site."""

    def __init__(self, before: Callable[[Request], set[str]] = lambda request: set()) -> None:
        self.before, self.asked = before, []

    def __call__(self, request: Request, on_reply: Callable[[str, Reply], None]) -> Exchange:
        lost = self.before(request)
        self.asked.append((request.action, request.stage, request.round, request.splits))
        answering = [site for site in SITES if site not in lost]
        for site in answering:
            step = np.float32(1 if site == "north" else 3)
            reply = Reply(site, cases=10, metrics={"train/loss": 0.5})
            if request.action == "train":
                reply = replace(reply, tensors={name: array + step for name, array in request.tensors.items()})
            else:
                reply = replace(
                    reply, metrics={f"{split}/{name}": 0.75 for split in request.splits for name in ("auroc", "n")}
                )
            on_reply(site, reply)
        gone = [{"site": site, "code": "DEADLINE", "text": "no answer"} for site in sorted(lost)]
        return Exchange(answering, gone, bytes_down=2, bytes_up=1)


def stop_at(stage: int, round_number: int, action: str = "train") -> Callable[[Request], set[str]]:
    def before(request: Request) -> set[str]:
        if (request.stage, request.round, request.action) == (stage, round_number, action):
            raise KeyboardInterrupt
        return set()

    return before


def untimed(folder: Path) -> list[dict[str, object]]:
    return [{**row, "seconds": None} for row in read_rounds(folder)]


def run(folder: Path, sites: Sites, study: Study = STUDY) -> dict[str, np.ndarray]:
    return run_stages(study, "run", SITES, sites, folder)


def test_rounds_are_asked_for_in_order_and_evaluated_as_the_study_says(tmp_path: Path) -> None:
    sites = Sites()
    run(tmp_path, sites)
    train = [("train", 1, 1, ()), ("train", 1, 2, ()), ("train", 2, 1, ()), ("train", 2, 2, ())]
    assert sites.asked == [
        *train,
        ("evaluate", 2, 2, ("validation",)),
        ("train", 2, 3, ()),
        ("evaluate", 2, 3, ("validation", "test")),
    ]


def test_records_metrics_and_model_are_written(tmp_path: Path) -> None:
    tensors = run(tmp_path, Sites())
    records = read_rounds(tmp_path)
    assert [(row["stage"], row["round"], row["aggregated"], row["replies"]) for row in records] == [
        (stage, number, True, SITES) for stage, number in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    ]
    assert {row["study_hash"] for row in records} == {STUDY.hash()}
    metrics = read_metrics(tmp_path / "metrics.csv")
    assert sum(row["metric"] == "loss" for row in metrics) == 10
    assert sum((row["split"], row["metric"]) == ("test", "auroc") for row in metrics) == 2
    saved, metadata = read_checkpoint(tmp_path / "model.safetensors")
    assert {group_of(name) for name in saved} == {"encoder"}
    assert metadata["study_hash"] == STUDY.hash()
    for name, array in tensors.items():
        np.testing.assert_array_equal(saved[name], array)


def test_the_encoder_goes_on_from_stage_to_stage(tmp_path: Path) -> None:
    after_all = run(tmp_path / "a", Sites())
    after_pretraining, _ = read_checkpoint(tmp_path / "a" / "model.safetensors")
    name = "encoder.stages.0.conv.unit0.adn.N.weight"
    np.testing.assert_allclose(after_all[name], 1 + 5 * 2, rtol=1e-6)  # initial 1, five rounds of mean +2
    assert name in after_pretraining


@pytest.mark.parametrize(
    ("stage", "number", "action"),
    [(1, 1, "train"), (1, 2, "train"), (2, 1, "train"), (2, 3, "train"), (2, 3, "evaluate")],
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_result(
    tmp_path: Path, stage: int, number: int, action: str
) -> None:
    whole = run(tmp_path / "whole", Sites())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Sites(stop_at(stage, number, action)))
    rest = Sites()
    resumed = run(tmp_path / "stopped", rest)
    assert rest.asked[0][:3] == ("train", stage, number), "finished rounds are not asked for again"
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array)

    assert untimed(tmp_path / "stopped") == untimed(tmp_path / "whole")
    assert read_metrics(tmp_path / "stopped" / "metrics.csv") == read_metrics(tmp_path / "whole" / "metrics.csv")


def test_below_quorum_nothing_is_aggregated_and_the_record_says_who_was_missing(tmp_path: Path) -> None:
    lose = Sites(lambda request: {"south"} if (request.stage, request.round) == (1, 2) else set())
    with pytest.raises(RoundError, match=r"Round 2 of stage 1 had 1 usable replies, quorum 2.*south: DEADLINE"):
        run(tmp_path, lose)
    last = read_rounds(tmp_path)[-1]
    assert (last["round"], last["aggregated"]) == (2, False)
    _, metadata = read_checkpoint(tmp_path / "checkpoint.safetensors")
    assert (metadata["stage"], metadata["round"]) == ("1", "1")
    whole = run(tmp_path / "whole", Sites())
    for name, array in run(tmp_path, Sites()).items():
        np.testing.assert_array_equal(array, whole[name])
    assert untimed(tmp_path) == untimed(tmp_path / "whole"), "the failed try is not counted twice"


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    run(tmp_path, Sites())
    with pytest.raises(CheckpointError, match="another study"):
        open_run(tmp_path, STUDY.model_copy(update={"seed": 4}))
