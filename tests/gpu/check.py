"""Does training work on this GPU, and how fast? For a bare machine with torch, numpy, scipy and MONAI.

    make gpu-check            or: python tests/gpu/check.py [--device cuda] [--only methods memory] [--json]

Generated cases. The steps, in this order; each can fail without ending the others:

ceiling     TFLOP/s of large matrix products, by precision
methods     every self-supervised method and every task, three steps: losses in float32 as on the CPU; in bf16 and fp16
            near them
memory      a batch that does not fit is halved until it does, with the same loss
compile     torch.compile gives the same losses
together    two processes train on one GPU at a time
private     steps with noise: their cost beside plain ones
speed       the default study and the common job: samples per second, share of the ceiling, share of time spent waiting
            for input, peak memory

The last line is one JSON object; exit 1 where a step failed. With --device cpu it shows that the script itself runs.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import bare  # noqa: F401 - before prostafed
import torch
from torch import Generator, nn
from torch.utils.flop_counter import FlopCounterMode

from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import Continuation, TrainingRecord, optimise
from prostafed.client.training.machine import Machine
from prostafed.client.training.objective import Objective, finetuning, pretraining
from prostafed.client.training.optimisers import Optimisation
from prostafed.client.training.sampling import Noise
from prostafed.common.imaging.cases import CasesInMemory, Grid
from prostafed.common.models.network import GroupBuilder, build_network
from prostafed.common.privacy.noise import open_sources
from prostafed.common.privacy.plan import plan_patients
from prostafed.common.ssl import METHODS, build_method
from prostafed.common.tasks import TASKS, build_task
from prostafed.simulations.phantom.case import generate_case
from prostafed.simulations.phantom.settings import Readers, Scanner

SEQUENCES = ("t2w", "adc", "hbv")
SMALL = Grid((3.6, 1.5, 1.5), (12, 48, 48))
DEFAULT = Grid((3.0, 0.5, 0.5), (20, 256, 256))  # of a study that says nothing
COMMON = Grid((3.0, 1.0, 1.0), (16, 64, 64))  # of the job that frameworks are compared by
STEPS = 3
# Largest difference of a loss from the CPU's, relative to max(1, loss): rounding of sums; of 8 and of 11 bits.
TOLERANCE = {"float32": 5e-3, "bf16": 0.15, "fp16": 0.05}


def main() -> None:
    """Run the steps and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--only", nargs="+", choices=STEPS_BY_NAME, default=list(STEPS_BY_NAME), help="these steps")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)  # what `together` starts
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.train:
        print(json.dumps({"loss": train("pretrain", "restore", device, "float32", steps=20).loss}))
        return
    found: dict[str, Any] = {"gpu_check": 1, **describe_machine(device)}
    failed = []
    for name in arguments.only:
        started = time.perf_counter()
        try:
            found[name] = STEPS_BY_NAME[name](device)
        except Exception as error:  # the others are still worth knowing
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        failed += [name] if is_bad(found[name]) else []
        found[name]["seconds"] = round(time.perf_counter() - started, 1)
        if not arguments.json:
            print(f"{name}: {json.dumps(found[name])}", flush=True)
    print(json.dumps({**found, "failed": failed}))
    sys.exit(bool(failed))


def is_bad(found: Mapping[str, Any]) -> bool:
    """Whether a step, or a part of it, says that it failed."""
    return "error" in found or any(is_bad(each) for each in found.values() if isinstance(each, dict))


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what figures depend on."""
    found = {"torch": torch.__version__, "python": platform.python_version(), "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
    return found


def measure_ceiling(device: torch.device) -> dict[str, Any]:
    """Return TFLOP/s of a square matrix product, by precision; the best of five."""
    size, found = (8192 if device.type == "cuda" else 512), {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if dtype == torch.float16 and device.type == "cpu":
            continue
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        seconds = min(time_call(lambda a=a, b=b: a @ b, device) for _ in range(5))
        found[name] = round(2 * size**3 / seconds / 1e12, 2)
    return found


def check_methods(device: torch.device) -> dict[str, Any]:
    """Return the largest difference of the losses from the CPU's, by method or task and precision."""
    found: dict[str, Any] = {}
    for kind, name in list_entries():
        expected, figures = train(kind, name, torch.device("cpu"), "float32"), dict[str, Any]()
        for precision in ("float32", *(("bf16", "fp16") if device.type == "cuda" else ())):
            record = train(kind, name, device, precision)
            figures[precision] = round(abs(record.loss - expected.loss) / max(1.0, abs(expected.loss)), 6)
            if not figures[precision] <= TOLERANCE[precision]:  # so written, it holds for NaN as well
                figures["error"] = f"{precision}: loss {record.loss:.4f}, on the CPU {expected.loss:.4f}"
        found[name] = figures
    return found


def check_memory(device: torch.device) -> dict[str, Any]:
    """Return how a batch that does not fit was passed, and the difference of its loss."""
    if device.type == "cpu":
        return {"skipped": "a GPU only"}
    whole = train("finetune", "lesion", device, "float32", batch_size=8)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    train("finetune", "lesion", device, "float32", batch_size=2)
    room = torch.cuda.max_memory_reserved(device) * 1.3  # for two cases, and not for eight
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(device).total_memory)
    try:
        record = train("finetune", "lesion", device, "float32", batch_size=8)
        peak = torch.cuda.max_memory_reserved(device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    difference = abs(record.loss - whole.loss)
    found = {"loss_difference": round(difference, 6), "room_mb": round(room / 1e6), "peak_mb": round(peak / 1e6)}
    return found | ({"error": "the losses differ"} if not difference < 5e-3 else {})


def check_compile(device: torch.device) -> dict[str, Any]:
    """Return the difference of losses with torch.compile, for a method and a task."""
    found: dict[str, Any] = {}
    for kind, name in (("pretrain", "conditional"), ("finetune", "lesion")):
        plain, compiled = (train(kind, name, device, "float32", compiled=each) for each in (False, True))
        difference = abs(plain.loss - compiled.loss) / max(1.0, abs(plain.loss))
        found[name] = {"difference": round(difference, 6)}
        if not difference <= TOLERANCE["float32"]:
            found[name]["error"] = f"loss {compiled.loss:.4f}, without {plain.loss:.4f}"
    return found


def check_together(device: torch.device) -> dict[str, Any]:
    """Return the losses of two processes that train on the same GPU at the same time."""
    command = [sys.executable, __file__, "--train", "--device", str(device)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    losses = [json.loads(process.communicate()[0].splitlines()[-1])["loss"] for process in processes]
    same = abs(losses[0] - losses[1]) < 1e-3
    return {"losses": [round(loss, 5) for loss in losses]} | ({} if same else {"error": "they differ"})


def measure_private(device: torch.device) -> dict[str, Any]:
    """Return the seconds of a step of the lesion task with noise for patients, and of a plain one."""
    try:
        from prostafed.client.training.private import optimise_privately
    except ImportError as error:  # Opacus is not here
        return {"skipped": str(error)}
    job, ended = Job("finetune", "lesion", COMMON, 16, 4), list[float]()
    feed, steps = job.feed(device), 6
    settings = Optimisation(steps, len(feed.chosen), 1e-3, 1e-4, seed=0)
    plan = plan_patients(len(feed.chosen), len(feed.chosen), steps, (1.0, 1.0, 1e-5))
    told = (Continuation(Machine("float32")), lambda *_: ended.append(time.perf_counter()))
    record = optimise_privately(job.network, job.objective, feed, settings, Noise(plan, open_sources(0)), told)
    step_s = statistics.median(after - before for before, after in pairwise(ended))
    plain_s = measure_job(Job("finetune", "lesion", COMMON, 16, 4), device, "float32")["step_s"]
    figures = {"step_s": round(step_s, 4), "plain_step_s": plain_s, "ratio": round(step_s / plain_s, 1)}
    return {**figures, "parameters": sum(each.numel() for each in job.network.parameters()), "loss": record.loss}


def measure_speed(device: torch.device) -> dict[str, Any]:
    """Return samples per second and what they cost, for the default study and for the common job."""
    big = device.type == "cuda"
    jobs = {
        "default conditional": lambda: Job("pretrain", "conditional", DEFAULT if big else SMALL, 32 if big else 8, 5),
        "default lesion": lambda: Job("finetune", "lesion", DEFAULT if big else SMALL, 32 if big else 8, 5),
        "common lesion": lambda: Job("finetune", "lesion", COMMON, 16, 4),
    }
    found: dict[str, Any] = {}
    for name, make in jobs.items():
        for precision in ("float32", "bf16") if big else ("float32",):
            found[f"{name} {precision}"] = measure_job(make(), device, precision)
            if big:
                torch.cuda.empty_cache()
    return found


class Job:
    """A network, an objective and cases for it."""

    def __init__(self, kind: str, name: str, grid: Grid, width: int, stages: int) -> None:
        self.objective, groups = make_objective(kind, name)
        self.network, self.grid = make_network(groups, grid, width, stages), grid

    def feed(self, device: torch.device) -> Feed:
        """Return the cases."""
        cases = make_cases(self.grid)
        return Feed(cases, range(len(cases.records)), self.grid, device)


def measure_job(job: Job, device: torch.device, precision: str) -> dict[str, Any]:
    """Return the figures of some steps of a job after some to warm up, and the same without reading and drawing."""
    batch, steps = 8, 12 if device.type == "cuda" else 2
    settings = Optimisation(steps, batch, 1e-3, 1e-4, seed=0)
    feed, machine = job.feed(device), Machine(precision)
    feed = replace(feed, chosen=list(feed.chosen)[:batch])  # one step an epoch
    optimise(job.network, job.objective, feed, replace(settings, epochs=3), Continuation(machine))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ended: list[float] = []
    record = optimise(
        job.network, job.objective, feed, settings, Continuation(machine), lambda *_: ended.append(time.perf_counter())
    )
    step_s = statistics.median(after - before for before, after in pairwise(ended))
    input_s = time_call(lambda: feed.draw(range(batch), job.objective.masks, Generator().manual_seed(0)), device)
    operations = count_operations(job, feed, batch, device)
    found = {
        "step_s": round(step_s, 4),
        "samples_per_s": round(batch / step_s, 2),
        "input_s": round(input_s, 4),
        "waiting": round(input_s / step_s, 3),
        "tflops": round(operations / step_s / 1e12, 2),
        "loss": round(record.loss, 4),
    }
    if device.type == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return found


def count_operations(job: Job, feed: Feed, batch: int, device: torch.device) -> int:
    """Return the floating-point operations of a forward and a backward pass of a batch."""
    generator = Generator().manual_seed(0)
    part_loss = job.objective.batch_loss(
        job.network, feed.draw(range(batch), job.objective.masks, generator), generator
    )
    with FlopCounterMode(display=False) as counter:
        part_loss(slice(0, batch)).backward()
    job.network.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def list_entries() -> Iterator[tuple[str, str]]:
    """Yield every method and every task."""
    yield from (("pretrain", name) for name in METHODS)
    yield from (("finetune", name) for name in TASKS)


def make_objective(kind: str, name: str) -> tuple[Objective, Mapping[str, GroupBuilder]]:
    """Return what is learnt, and the groups it needs beside the encoder."""
    if kind == "pretrain":
        method = build_method(name, METHODS[name].parameters())
        return pretraining(method), method.heads
    task = build_task(name)
    return finetuning(task), task.heads


def make_network(groups: Mapping[str, GroupBuilder], grid: Grid, width: int = 8, stages: int = 4) -> nn.ModuleDict:
    """Return the network of a stage."""
    return build_network(
        sequences=len(SEQUENCES),
        spacing_mm=grid.spacing_mm,
        size=grid.size,
        width=width,
        stages=stages,
        norm="instance",
        groups=groups,
        seed=0,
        stage=1,
    )


@cache
def make_cases(grid: Grid, count: int = 8) -> CasesInMemory:
    """Return generated cases, each another patient."""
    made = [generate_case(0, index, "RUMC", Scanner(), Readers(), grid, SEQUENCES) for index in range(count)]
    return CasesInMemory(tuple(case[0] for case in made), tuple((case[1], case[2]) for case in made))


def train(
    kind: str,
    name: str,
    device: torch.device,
    precision: str,
    *,
    steps: int = STEPS,
    batch_size: int = 4,
    compiled: bool = False,
) -> TrainingRecord:
    """Return the record of some steps on small cases."""
    objective, groups = make_objective(kind, name)
    cases = make_cases(SMALL)
    network, feed = make_network(groups, SMALL), Feed(cases, range(len(cases.records)), SMALL, device)
    settings = Optimisation(max(1, steps * batch_size // 8), batch_size, 1e-3, 1e-4, seed=0)
    with exact_products(precision):
        return optimise(network, objective, feed, settings, Continuation(Machine(precision, compile=compiled)))


@contextmanager
def exact_products(precision: str) -> Iterator[None]:
    """Let float32 be float32, without the GPU's short products of convolutions."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    yield
    torch.backends.cudnn.allow_tf32 = before


def time_call(call: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds of a call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


STEPS_BY_NAME: Mapping[str, Callable[[torch.device], dict[str, Any]]] = {
    "ceiling": measure_ceiling,
    "methods": check_methods,
    "memory": check_memory,
    "compile": check_compile,
    "together": check_together,
    "private": measure_private,
    "speed": measure_speed,
}

if __name__ == "__main__":
    main()
