"""A request, resolved once."""

import ast
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.rounds.job import open_job
from prostafed.client.training.optimisers import Tuning
from prostafed.common.errors import CheckpointError, RequestError
from prostafed.common.exchange.messages import Request
from tests.client.tiny_site import BYOL, FINETUNE, ask, make_study, open_site

CLIENT = Path(__file__).parents[3] / "client"
PROBE = {**FINETUNE, "mode": "probe", "task": "pirads"}
ALTERNATE = {**FINETUNE, "mode": "alternate", "head_epochs": 2, "layer_decay": 0.5}


@pytest.mark.parametrize(
    ("stage", "masks", "tuning", "head_epochs", "judged", "teaches"),
    [
        (BYOL, False, Tuning(), 0, False, False),
        (FINETUNE, True, Tuning(), 0, True, True),
        (PROBE, True, Tuning(frozen=True), 0, True, False),
        (ALTERNATE, True, Tuning(layer_decay=0.5), 2, True, True),
    ],
)
def test_a_job_knows_what_its_stage_asks_for(
    stage: dict[str, Any], masks: bool, tuning: Tuning, head_epochs: int, judged: bool, teaches: bool, tmp_path: Path
) -> None:
    study = make_study(stage)
    place = open_site(tmp_path, study)
    job = open_job(place, ask(study))
    assert (job.objective.masks, job.objective.teaches_cspca) == (masks, teaches)
    assert (job.tuning, job.head_epochs, job.task is not None) == (tuning, head_epochs, judged)
    assert job.chosen == sorted(place.splits["train"])
    assert job.folder == place.site.memory / "run" / "stage-1"
    assert bool(job.objective.targets) == (stage is BYOL)


def test_another_study_stage_or_round_has_no_job(tmp_path: Path) -> None:
    study = make_study(FINETUNE)
    place = open_site(tmp_path, study)
    with pytest.raises(CheckpointError, match="another study"):
        open_job(place, Request("train", "run", "abc", 1, 1))
    for stage, number in ((0, 1), (2, 1), (1, 0), (1, 4)):
        with pytest.raises(RequestError, match=f"names {'stage' if stage != 1 else 'round'}"):
            open_job(place, Request("train", "run", study.hash(), stage, number))


def test_kinds_of_stages_are_told_apart_in_one_place() -> None:
    forks = []
    for path in sorted(CLIENT.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        asked = [ast.unparse(call.args[1]) for call in calls if ast.unparse(call.func) == "isinstance"]
        forks += [path.name for kinds in asked if "Pretrain" in kinds or "Finetune" in kinds]
    assert forks == ["job.py"]
