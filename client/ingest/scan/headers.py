"""The headers of all files below a folder, in parallel, as studies; what must be said of them as findings."""

import multiprocessing
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from prostafed.client.findings import Finding, make_finding
from prostafed.client.ingest.records import DicomStudy
from prostafed.client.ingest.scan.grouping import describe_files, make_study
from prostafed.client.ingest.scan.instances import Instance, Rejected, read_instances
from prostafed.client.ingest.scan.walk import count, describe, walk
from prostafed.common.errors import DataError

CHUNK = 64  # files a worker reads before it answers
FEW = 600  # files that are read sooner than workers start
MAX_WORKERS = 8  # more wait for the disk

# Ctrl-C is for the process that asked: workers would answer it with a traceback each.
_IGNORE_INTERRUPT = (signal.SIGINT, signal.SIG_IGN)

OnFile = Callable[[int, int], None]  # files done, files in all


def read_studies(
    root: Path, *, workers: int | None = None, on_file: OnFile | None = None
) -> tuple[list[DicomStudy], list[Finding]]:
    """Return the studies below `root`, ordered by their first file, and the findings that concern no single study.

    `workers` are processes, by default as many as CPUs, at most 8; few files are read in this one. Raises
    ConfigurationError where `root` is no folder, DataError where the system ended a worker; whatever the files hold
    becomes a finding.
    """
    found = walk(root)
    findings = describe(found)
    if found.overflow:
        return [], findings
    # Of this process: a container may have fewer CPUs than the machine.
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or min(cpus, MAX_WORKERS)
    read = list(_read_all(found.files, workers, on_file or (lambda done, total: None)))
    images: dict[str, list[Instance]] = defaultdict(list)
    for each in read:
        if isinstance(each, Instance):
            images[each.study].append(each)
    unusable = [each for each in read if isinstance(each, Rejected)]
    unusable += [Rejected(path, "EMPTY_FILE") for path in found.empty]
    at_home, homeless = find_homes(images, unusable)
    sizes = dict(zip(found.files, found.sizes, strict=True))
    studies = [make_study(instances, sizes, at_home[study]) for study, instances in images.items()]
    findings += [describe_files(code, number) for code, number in sorted(homeless.items())]
    if not studies:
        files = count(len(read) + found.companions, "file")
        text = f"expected DICOM images, found none among {files}; give the folder of the export."
        findings.append(make_finding("-", "NO_DICOM", text))
    return studies, findings


def find_homes(
    images: dict[str, list[Instance]], unusable: Sequence[Rejected]
) -> tuple[dict[str, Counter[str]], Counter[str]]:
    """Count unusable files by code: per study where their folder holds images of one study only, else together."""
    studies: dict[Path, set[str]] = defaultdict(set)
    for study, instances in images.items():
        for instance in instances:
            studies[instance.path.parent].add(study)
    at_home: dict[str, Counter[str]] = defaultdict(Counter)
    homeless: Counter[str] = Counter()
    for each in unusable:
        around = studies[each.path.parent]
        if each.code in ("EMPTY_FILE", "UNREADABLE", "TRUNCATED") and len(around) == 1:
            at_home[min(around)][each.code] += 1
        elif each.code:
            homeless[each.code] += 1
    return at_home, homeless


def _read_all(files: Sequence[Path], workers: int, on_file: OnFile) -> Iterator[Instance | Rejected]:
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    done = 0
    for chunk in _map(chunks, workers if len(files) > FEW else 1):
        done += len(chunk)
        on_file(done, len(files))
        yield from chunk


def _map(chunks: Sequence[Sequence[Path]], workers: int) -> Iterator[list[Instance | Rejected]]:
    if workers == 1:
        yield from map(read_instances, chunks)
        return
    # Not fork: the process that asks may run threads (a progress bar, torch), whose locks a fork copies as they are.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([read_instances.__module__])
    try:
        with ProcessPoolExecutor(min(workers, len(chunks)), context, signal.signal, _IGNORE_INTERRUPT) as pool:
            yield from pool.map(read_instances, chunks)
    except BrokenProcessPool as error:
        raise DataError(
            "Expected to read all headers, but the system ended a process that did, most likely for want of memory. "
            "Free some, or index with one worker."
        ) from error
