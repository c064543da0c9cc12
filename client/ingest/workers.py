"""Work on many studies in a few processes; a study that ends its process costs itself alone."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import SimpleITK as sitk

PlanT = TypeVar("PlanT")
ResultT = TypeVar("ResultT")


def map_in_processes(
    work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], workers: int
) -> Iterator[tuple[PlanT, ResultT | None]]:
    """Yield each plan with `work(plan)`, in the order they are done; None where it ended its process.

    A decoder written in C may crash on a damaged file, and the system ends what takes too much memory. What was under
    way then is tried again, each plan in a process of its own: only those that end that, too, come back as None. What
    `work` raises is raised.
    """
    left = {id(plan): plan for plan in plans}
    try:
        for plan, result in _run(work, plans, workers):
            del left[id(plan)]
            yield plan, result
        return
    except BrokenProcessPool:
        pass
    for plan in left.values():
        try:
            yield from _run(work, [plan], 1)
        except BrokenProcessPool:
            yield plan, None


def _run(
    work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], workers: int
) -> Iterator[tuple[PlanT, ResultT | None]]:
    # Not fork: the process that asks may run threads (a progress bar), whose locks a fork would copy as they are.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload(["prostafed.client.ingest.index"])
    pool = ProcessPoolExecutor(min(workers, len(plans)), mp_context=context, initializer=_prepare)
    try:
        futures = {pool.submit(work, plan): plan for plan in plans}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the processes are as many as the CPUs
