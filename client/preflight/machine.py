"""Checks of the machine: disk, memory, GPU, clock, versions."""

import os
import platform
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prostafed.client.preflight.records import Remark, Situation
from prostafed.common.shell.provenance import read_versions

# Judgements, not measurements: a study may need less, and a large one more.
MIN_DISK_GB = 10.0
MIN_MEMORY_GB = 8.0
MIN_GPU_GB = 8.0
CLOCK_TOLERANCE = timedelta(minutes=5)

_GB = 1e9


def check_disk(situation: Situation) -> Iterator[Remark]:
    """Free disk space where cases and memory lie."""
    for path in (situation.site.cases, situation.site.memory):
        existing = next(each for each in (path, *path.parents) if each.exists())
        free = shutil.disk_usage(existing).free / _GB
        text = f"{free:.0f} GB are free for the folder {path.name}"
        yield _weigh(text, free, MIN_DISK_GB, "Free space, or name a folder on another disk.")


def check_memory(situation: Situation) -> Iterator[Remark]:
    """Main memory of the machine."""
    del situation
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GB
    except (AttributeError, ValueError, OSError):
        yield Remark("The size of the memory is not known on this system.")
        return
    fix = "Use a machine with more memory, or take part in studies of smaller batches only."
    yield _weigh(f"The machine has {total:.0f} GB of memory", total, MIN_MEMORY_GB, fix)


def check_device(situation: Situation) -> Iterator[Remark]:
    """The GPU, if the site file asks for one or one is there."""
    import torch  # seconds: only where it is needed

    site, count = situation.site, torch.cuda.device_count() if torch.cuda.is_available() else 0
    if site.device == "cpu" or (site.device == "auto" and not count):
        found = "a GPU is there and not used" if count else "no GPU is there"
        yield Remark(f"Training will run on the CPU ({found}): expect hours where a GPU takes minutes.")
        return
    for rank in range(site.processes):
        index = int(site.devices[rank].partition(":")[2]) if ":" in site.device else rank
        if index >= count:
            yield Remark(
                f"The site file asks for cuda:{index}; {count} GPUs can be used.",
                'Install the NVIDIA driver that fits this release of torch, or set device = "cpu" or "auto", '
                "or lower processes.",
            )
            return
        memory = torch.cuda.get_device_properties(index).total_memory / _GB
        text = f"{torch.cuda.get_device_name(index)} with {memory:.0f} GB will be used"
        fix = "Name another GPU in the site file (device), or take part in small studies only."
        yield _weigh(text, memory, MIN_GPU_GB, fix)


def check_clock(situation: Situation) -> Iterator[Remark]:
    """Whether the clock can be right.

    TLS tells no time, so nothing is asked over the network: a clock that is behind shows an hour at which this
    installation or the site's own files did not exist yet. Whether it fits the certificates is said by their own check.
    """
    folder = situation.site_file.resolve().parent
    newest = max(path.stat().st_mtime for path in (Path(__file__), *folder.iterdir()))
    ahead = datetime.fromtimestamp(newest, UTC) - situation.now
    if ahead > CLOCK_TOLERANCE:
        yield Remark(
            f"The clock is behind by {ahead.total_seconds() / 60:.0f} minutes or more: a file here is from later.",
            "Set the clock of this machine, best by NTP (timedatectl set-ntp true).",
        )
    else:
        yield Remark(f"The clock shows {situation.now:%Y-%m-%d %H:%M} UTC, which nothing here contradicts.")


def check_versions(situation: Situation) -> Iterator[Remark]:
    """What is installed; sites of a study must run the same release."""
    del situation
    versions = read_versions()
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    if "prostafed" in versions and "torch" in versions:
        yield Remark(f"{platform.system()} {platform.machine()}; {listed}.")
    else:
        yield Remark(f"The installation is not complete: {listed}.", "Install prostafed again, from its wheel.")


def _weigh(text: str, found_gb: float, wanted_gb: float, fix: str) -> Remark:
    return Remark(f"{text}.") if found_gb >= wanted_gb else Remark(f"{text}; {wanted_gb:.0f} GB are wanted.", fix)
