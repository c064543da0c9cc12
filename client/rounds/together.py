"""Several processes of a site that train one network together, each with a part of every batch."""

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessException, spawn

from prostafed.client.rounds.local_round import train_round
from prostafed.client.rounds.memory import find_answer
from prostafed.client.rounds.workplace import Workplace
from prostafed.client.training.machine import Machine
from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.messages import Reply, Request


def train_together(workplace: Workplace, request: Request, folder: Path, digest: str, machine: Machine) -> Reply:
    """Train one round in `machine.ranks` processes, on as many GPUs where the site trains on them; return its answer.

    Gradients are summed over the processes, so the round is the one a single process trains but for rounding. Each
    process reads and augments the whole batch and passes its part through the network: what is drawn at random is then
    the same however many there are. They find each other through a file, on this machine only, and progress is not
    told step by step. Raises ConfigurationError for more processes than GPUs, DataError where one of them fails.
    """
    if workplace.device.type == "cuda" and machine.ranks > torch.cuda.device_count():
        raise ConfigurationError(
            f"processes is {machine.ranks}, but there are {torch.cuda.device_count()} GPUs. Lower it in the site file."
        )
    with tempfile.TemporaryDirectory(prefix="pf-") as scratch:
        meeting = Path(scratch) / "meeting"
        try:
            spawn(_join, (workplace, request, folder, digest, machine, meeting), machine.ranks)  # type: ignore[no-untyped-call]
        except ProcessException as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"One of the site's {machine.ranks} training processes ended: {reason}") from error
    reply = find_answer(folder, request.stage, request.round, request.study_hash, digest)
    assert reply is not None
    return reply


def _join(
    rank: int, workplace: Workplace, request: Request, folder: Path, digest: str, machine: Machine, meeting: Path
) -> None:
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    device, threads = workplace.device, workplace.site.threads or max(1, (os.cpu_count() or 1) // machine.ranks)
    torch.set_num_threads(threads)
    if device.type == "cuda":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=meeting.as_uri(),
        rank=rank,
        world_size=machine.ranks,
    )
    try:
        train_round(replace(workplace, device=device), request, folder, digest, replace(machine, rank=rank))
    finally:
        distributed.destroy_process_group()
