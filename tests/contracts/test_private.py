"""Every method and task that noise for patients is allowed for takes private steps, and nothing else of it moves."""

from pathlib import Path
from typing import Any

import pytest

from prostafed.client.rounds import answer as work
from prostafed.common.ssl import METHODS
from prostafed.common.tasks import TASKS
from tests.client.tiny_site import ask, draw_masks, make_study, open_site

SETTINGS = "[privacy]\nminimum_cohort = 1\nnoise_seed = 0"
ROUND = {"rounds": 1, "epochs": 1, "batch_size": 5}
METHOD = [{"kind": "pretrain", "method": name, **ROUND} for name, entry in METHODS.items() if entry.decomposes]
TASK = [{"kind": "finetune", "task": name, **ROUND} for name in TASKS]


@pytest.mark.parametrize("stage", [*METHOD, *TASK], ids=lambda stage: str(stage.get("method", stage.get("task"))))
def test_a_private_round_gives_an_update(stage: dict[str, Any], tmp_path: Path) -> None:
    study = make_study(stage, privacy={"unit": "patient", "noise": 1.0})
    places = [open_site(tmp_path / name, study, SETTINGS, draw_masks) for name in ("north", "again")]
    reply, again = (work.answer(place, ask(study)) for place in places)
    sent = ask(study).tensors
    assert reply.tensors.keys() == sent.keys()
    assert any(reply.tensors[name].tobytes() != sent[name].tobytes() for name in sent)
    assert all(again.tensors[name].tobytes() == reply.tensors[name].tobytes() for name in sent)
