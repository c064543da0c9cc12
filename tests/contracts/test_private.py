"""Every method and task that noise for patients is allowed for takes private steps, and nothing else of it moves."""

from pathlib import Path
from typing import Any

import pytest

from prostafed.client.rounds import answer as work
from prostafed.common.errors import DataError
from prostafed.common.ssl import METHODS
from prostafed.common.tasks import TASKS
from tests.client.tiny_site import ask, make_study, open_site

SETTINGS = "[privacy]\nminimum_cohort = 1\nnoise_seed = 0"
ROUND = {"rounds": 1, "epochs": 1, "batch_size": 5}
METHOD = [{"kind": "pretrain", "method": name, **ROUND} for name, entry in METHODS.items() if entry.decomposes]
TASK = [{"kind": "finetune", "task": name, **ROUND} for name in TASKS]


@pytest.mark.parametrize("stage", [*METHOD, *TASK], ids=lambda stage: str(stage.get("method", stage.get("task"))))
def test_a_private_round_gives_an_update(stage: dict[str, Any], tmp_path: Path) -> None:
    study = make_study(stage, privacy={"unit": "patient", "noise": 1.0})
    place = open_site(tmp_path / "north", study, SETTINGS)
    try:
        reply = work.answer(place, ask(study))
    except DataError:
        pytest.skip("the tiny site has no labels for it")
    sent = ask(study).tensors
    assert reply.tensors.keys() == sent.keys()
    assert any(reply.tensors[name].tobytes() != sent[name].tobytes() for name in sent)
    again = work.answer(open_site(tmp_path / "again", study, SETTINGS), ask(study))
    assert all(again.tensors[name].tobytes() == reply.tensors[name].tobytes() for name in sent)
