"""Several processes of a site train what one would."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from prostafed.client.rounds import answer as work
from prostafed.client.rounds import several_processes as together
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.memory import find_partial, recall, stage_folder
from prostafed.client.training.machine import say_once
from prostafed.common.errors import ConfigurationError, DataError, DivergedError, StorageError
from prostafed.common.shell.leaving import Interrupted, leave_on_sigterm
from tests.client.tiny_site import BYOL, FINETUNE, ask, make_study, open_site

SGD = {"optimiser": "sgd", "learning_rate": 0.1}  # AdamW divides by gradients near 0, and would blow up their rounding


# With a batch of one case the second process has nothing to do, and must still keep step.
@pytest.mark.parametrize("stage", [{**FINETUNE, **SGD}, {**BYOL, **SGD, "batch_size": 1, "epochs": 1}])
def test_two_processes_train_what_one_trains(stage: dict[str, Any], tmp_path: Path) -> None:
    study = make_study(stage)
    one, two = open_site(tmp_path / "one", study), open_site(tmp_path / "two", study, "processes = 2")
    alone, shared = work.answer(one, ask(study)), work.answer(two, ask(study))
    for name, array in alone.tensors.items():
        np.testing.assert_allclose(shared.tensors[name], array, atol=1e-5, err_msg=name)
    assert shared.cases == alone.cases
    assert shared.metrics["train/loss"] == pytest.approx(alone.metrics["train/loss"], abs=1e-5)
    assert shared.metrics["train/steps"] == alone.metrics["train/steps"]
    kept = [recall(stage_folder(place.site.memory, "run", 1), 1, study.hash()) for place in (one, two)]
    assert kept[0] is not None
    assert kept[1] is not None
    for name, array in kept[0].tensors.items():
        np.testing.assert_allclose(kept[1].tensors[name], array, atol=1e-5, err_msg=name)


def test_a_loss_that_compares_cases_is_trained_by_one_process_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    say_once.cache_clear()
    monkeypatch.setattr(work, "train_together", lambda *_: pytest.fail("it was divided"))
    study = make_study({"kind": "pretrain", "method": "simclr", "rounds": 1, "batch_size": 5})
    work.answer(open_site(tmp_path, study, "processes = 2"), ask(study))
    assert "processes is not used" in caplog.text


@pytest.mark.parametrize("kind", [DataError, DivergedError, StorageError, MemoryError])
def test_what_ended_a_process_is_said(kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ProcessRaisedException(f"Traceback ...\n{kind.__name__}: The loss became nan at step 1.\n", 1, 99)

    monkeypatch.setattr(together, "spawn", fail)
    said = f"One of the site's 2 training processes ended: {kind.__name__}: The loss became nan"
    with pytest.raises(kind, match=said):
        work.answer(open_site(tmp_path, make_study(FINETUNE), "processes = 2"), ask(make_study(FINETUNE)))


@pytest.mark.parametrize(
    ("device", "there", "expected"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cuda:3,cuda:1", 4, ["cuda:3", "cuda:1"]),
        ("cuda:3,cuda:1", 3, "ask for cuda:3, and there are 3 GPUs"),
        ("cuda", 1, "ask for cuda:1, and there are 1 GPUs"),
        ("cpu", 4, ["cpu", "cpu"]),
    ],
)
def test_processes_take_the_gpus_that_the_site_grants_and_no_others(
    device: str, there: int, expected: list[str] | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    study, given = make_study(FINETUNE), []
    place = open_site(tmp_path, study, f'device = "{device}"\nprocesses = 2')
    monkeypatch.setattr(together, "find_answer", lambda *_: "answered")
    monkeypatch.setattr(together, "spawn", lambda _, arguments, ranks: given.extend([*arguments[-1], ranks]))
    if isinstance(expected, str):
        with pytest.raises(ConfigurationError, match=expected):
            together.train_together(open_job(place, ask(study)))
    else:
        together.train_together(open_job(place, ask(study)))
        assert given == [*map(torch.device, expected), 2]


@pytest.mark.slow
def test_processes_that_are_asked_to_leave_keep_the_round_and_end(tmp_path: Path) -> None:
    """The first of them keeps it: here after a step, since the next checkpoint would be long after."""
    study = make_study({**FINETUNE, **SGD, "epochs": 100_000})
    place = open_site(tmp_path, study, "processes = 2\ncheckpoint_minutes = 0.001")
    partial = stage_folder(place.site.memory, "run", 1) / "partial-00001.pt"
    before, began = signal.getsignal(signal.SIGTERM), time.monotonic()

    def leave() -> None:
        while not partial.exists() and time.monotonic() < began + 60:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    leave_on_sigterm()
    leaver = threading.Thread(target=leave)
    leaver.start()
    try:
        with pytest.raises(Interrupted):
            work.answer(place, ask(study))
    finally:
        leaver.join()
        leave_on_sigterm()
        signal.signal(signal.SIGTERM, before)
    assert not multiprocessing.active_children()
    kept = find_partial(partial.parent, 1)
    assert kept is not None
    assert kept["state"]["progress"]["steps"] > 0
