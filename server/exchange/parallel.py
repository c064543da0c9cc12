"""The same work on many tensors, on several cores: numpy lets other threads run while it computes."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

MOST_THREADS = 4  # more would wait for the memory, not for each other

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return function(item) for each of `items`, in their order; an exception is that of the first item that has one.

    The calls must not touch each other's arrays.
    """
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    return list(_pool(threads).map(function, items)) if threads > 1 else [function(item) for item in items]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tensors")
