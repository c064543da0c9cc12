"""Several processes of a site that train one network together, each with a part of every batch."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessException
from torch.multiprocessing.spawn import spawn as start_processes

from prostafed.client.rounds.job import Job, open_job
from prostafed.client.rounds.local_round import train_round
from prostafed.client.rounds.memory import find_answer
from prostafed.client.rounds.workplace import Workplace
from prostafed.common.errors import ConfigurationError, DataError, DivergedError, StorageError
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.shell.files import scratch_folder
from prostafed.common.shell.leaving import Interrupted, is_asked_to_leave, leave_on_sigterm, until_step

_SHARED_MEMORY, _ENOUGH = Path("/dev/shm"), 1 << 30


def train_together(job: Job) -> Reply:
    """Train one round in as many processes as the site has, each on a GPU the site file grants where it trains on
    GPUs; return its answer.

    Gradients are summed over the processes, so the round is the one a single process trains but for rounding. Each
    process reads and augments the whole batch and passes its part through the network: what is drawn at random is then
    the same however many there are. They find each other through a file, on this machine only, and progress is not
    told step by step. Raises ConfigurationError for GPUs that are not there, DataError where a process fails,
    DivergedError, StorageError or MemoryError where that is why.
    """
    ranks = job.machine.ranks
    devices = grant_devices(job.workplace, ranks)
    with scratch_folder() as scratch:
        meeting = scratch / "meeting"
        try:
            spawn(_join, (job.workplace, job.request, meeting, devices), ranks)
        except ProcessException as error:
            if is_asked_to_leave():
                raise Interrupted from error
            reason = str(error).strip().splitlines()[-1]
            kinds = (DivergedError, StorageError, MemoryError)  # torch's, too, is named ...MemoryError
            kind = next((each for each in kinds if each.__name__ in reason), DataError)
            raise kind(f"One of the site's {ranks} training processes ended: {reason}") from error
    reply = find_answer(job.folder, job.request, job.key)
    assert reply is not None
    return reply


def spawn(work: Callable[..., None], arguments: tuple[object, ...], ranks: int) -> None:
    """Run `work` in as many processes and wait for them; where this one is asked to leave, so is the first of them: it
    keeps the round in the making. Raises ProcessException where one fails.
    """
    with until_step():
        processes = start_processes(work, arguments, ranks, join=False)  # type: ignore[no-untyped-call]
        told = False
        while not processes.join(timeout=0.5):
            if is_asked_to_leave() and not told:
                told = True
                processes.processes[0].terminate()


def grant_devices(workplace: Workplace, ranks: int) -> tuple[torch.device, ...]:
    """Return the device of each of `ranks` processes: the GPUs the site file numbers, else the first ones, or the CPU.

    Raises ConfigurationError for one that is not there.
    """
    if workplace.device.type != "cuda":
        return (workplace.device,) * ranks
    numbered = [torch.device(name) for name in workplace.site.devices if ":" in name]
    devices = tuple(numbered or (torch.device("cuda", rank) for rank in range(ranks)))
    there = torch.cuda.device_count()
    if missing := [device for device in devices if (device.index or 0) >= there]:
        raise ConfigurationError(
            f"The site file's device and processes ({workplace.site.device}, {ranks}) ask for {missing[0]}, and there "
            f"are {there} GPUs, counted from cuda:0. Name others, or lower processes."
        )
    return devices


def _join(rank: int, workplace: Workplace, request: Request, meeting: Path, devices: Sequence[torch.device]) -> None:
    """Train a rank's part; what a job holds beside the request is opened anew, since functions cross no process."""
    if rank == 0:
        leave_on_sigterm()
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    if _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).total < _ENOUGH:
        os.environ.setdefault("NCCL_SHM_DISABLE", "1")  # a container's usual 64 MB are less than what it takes
    device, threads = devices[rank], workplace.site.threads or max(1, (os.cpu_count() or 1) // len(devices))
    job = open_job(replace(workplace, device=device), request)
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", init_method=meeting.as_uri(), rank=rank, world_size=len(devices)
    )
    try:
        train_round(job, replace(job.machine, rank=rank))
    except Interrupted as error:
        raise RuntimeError("asked to leave") from error  # which ends the others, as an interruption does not
    finally:
        distributed.destroy_process_group()
