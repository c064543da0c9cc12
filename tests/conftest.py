"""What all tests share."""

import gc
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prostafed.simulations.federation import workers

REPOSITORY = Path(__file__).resolve().parents[1]
LONGEST_FIRST = ("integration", "simulations", "examples", "faults", "contracts")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rooms that take longest begin: no worker is left alone with a federation in the end."""
    ranks = {room: rank for rank, room in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.relative_to(REPOSITORY / "tests").parts[0], len(ranks)))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector of garbage need not walk through torch again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real files, PROSTAFED_DATA or ../shared/data; skips the test where it is absent."""
    folder = Path(os.environ.get("PROSTAFED_DATA", REPOSITORY / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real files in {folder}: set PROSTAFED_DATA to a folder that holds picai_layout/")
    return folder


class _Kept(ProcessPoolExecutor):
    """A pool that outlives its `with`."""

    def __exit__(self, *error: object) -> None:
        return None


@pytest.fixture(scope="session", autouse=True)
def one_process_generates() -> Iterator[None]:
    """All generated cases are made by one process: a new one loads torch, longer than a hospital's cases take."""
    kept: list[_Kept] = []

    def keep(count: int, *options: Any) -> _Kept:
        if not kept:
            kept.append(_Kept(1, *options))
        return kept[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "ProcessPoolExecutor", keep)
        yield
    for pool in kept:
        pool.shutdown()
