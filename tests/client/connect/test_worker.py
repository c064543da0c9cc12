"""A worker says what it computes on, and ends where that is lost while it waits."""

import socket
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from prostafed.client.connect import worker
from prostafed.client.connect.frames import Ready
from prostafed.client.connect.status import UNUSABLE
from prostafed.client.connect.worker import name_device, serve


def test_a_device_is_named_by_a_step_on_it() -> None:
    assert name_device(torch.device("cpu")) == "cpu"
    assert name_device(torch.device("cuda:77")) == f"cuda:77, {UNUSABLE}"


def test_a_gpu_that_is_lost_ends_a_worker_that_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(["NVIDIA H100", "NVIDIA H100", f"cuda, {UNUSABLE}"])
    monkeypatch.setattr(worker, "LOOK_S", 0.01)
    monkeypatch.setattr(worker, "_load", lambda _: torch.device("cpu"))
    monkeypatch.setattr(worker, "name_device", lambda _: next(seen))
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as link, Connection(theirs.detach()) as end:
        with pytest.raises(SystemExit, match="GPU"):
            serve(tmp_path / "site.toml", end)
        assert link.recv() == Ready("NVIDIA H100")


def test_a_worker_that_waits_ends_with_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LOOK_S", 0.01)
    monkeypatch.setattr(worker, "_load", lambda _: torch.device("cpu"))
    ours, theirs = socket.socketpair()
    link = Connection(ours.detach())
    threading.Timer(0.05, link.close).start()
    with Connection(theirs.detach()) as end, pytest.raises((EOFError, ConnectionResetError)):
        serve(tmp_path / "site.toml", end)
