"""What an answer is held against before it leaves, one question at a time: each holds alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from prostafed.common.exchange.arrays import Layout
from prostafed.common.exchange.kinds import ABOUT_MASKS
from prostafed.common.exchange.messages import MOST_MASK_BYTES, Reply, Request
from prostafed.common.exchange.released import COHORT, MOST_COUNTED, is_released
from prostafed.common.metrics.cohort import SCANNER_KEYS
from prostafed.common.metrics.histogram_floats import DETECTIONS, SCORES, TOTALS
from prostafed.common.metrics.small_cells import is_small
from prostafed.common.metrics.summary import LOSS, POSITIVES, N
from prostafed.common.tensors import count_bytes, cut


@dataclass(frozen=True)
class Bounds:
    """What the one who answers, what was asked, and the site file say of an answer."""

    site: str
    study_hash: str  # of the study that is answered, whatever the request says
    request: Request
    minimum_cell: int = 1  # patients
    most_bytes: int = 1 << 40


Check = Callable[[Reply, Layout, Bounds], str]  # -> what is wrong, "" where nothing is


def check_site(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is it this site's own name?"""
    return "" if reply.site == bounds.site else "The answer names another site than that of the site file."


def check_study(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is it about the study that was opened?"""
    return "" if reply.study_hash == bounds.study_hash else "The answer names another study than the one asked about."


def check_place(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is it about the stage and the round that were asked for?"""
    asked = (bounds.request.stage, bounds.request.round)
    return "" if (reply.stage, reply.round) == asked else "The answer names another stage or round than the request."


def check_cases(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is the number of cases one that can be?"""
    least, found = int(bounds.request.action == "train"), reply.cases
    fits = type(found) is int and least <= found <= MOST_COUNTED  # True is an int, and no number
    return "" if fits else f"The number of cases is none from {least} to {MOST_COUNTED}."


def check_names(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Are the tensors exactly those that the study sends?"""
    odd = payload.slots.keys() ^ reply.tensors.keys()
    return f"What is about to leave is not what the study sends, e.g. {min(odd)}." if odd else ""


def check_layout(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Has each tensor the dtype and the shape that the study sends?"""
    for name, array in reply.tensors.items():
        if name in payload.slots and not payload.slots[name].takes(str(array.dtype), array.shape):
            return f"What is about to leave is not what the study sends, e.g. {name}."
    return ""


def check_finite(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is every value a number? One that is not can hold 52 bits of anything."""
    for name, array in reply.tensors.items():
        flat = array.reshape(-1)
        if not all(np.isfinite(flat[block]).all() for block in cut(flat.size)):
            return f"{name} holds values that are not finite."
    return ""


def check_plan(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Are the bytes within what the study sends?"""
    size = count_bytes(reply.tensors)
    return f"The tensors have {size} bytes, and the study sends {payload.most_bytes}." * (size > payload.most_bytes)


def check_size(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Are the bytes within what the site file allows?"""
    size = count_bytes(reply.tensors)
    said = f"The answer has {size >> 20} MB, more than largest_answer_mb of the site file. If that is as it should be, "
    return f"{said}set it higher." if size > bounds.most_bytes else ""


def check_metrics(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is every metric on the list, and within its range?"""
    odd = [name for name, value in reply.metrics.items() if not is_released(name, value)]
    return f"The metric {odd[0]} is not one that may leave the site, or not in its range." if odd else ""


def check_asked(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is every metric about what was asked for?"""
    request = bounds.request
    about = {"hello": (COHORT,), "train": ("train",), "evaluate": request.splits}.get(request.action, ())
    odd = [name for name in reply.metrics if name.partition("/")[0] not in about]
    return f"The metric {odd[0]} was not asked for." if odd else ""


def check_masks(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Is something said about masks only where that was asked for, and no more than that takes?"""
    fits = len(reply.masks) <= (MOST_MASK_BYTES if bounds.request.action in ABOUT_MASKS else 0)
    return "" if fits else "The answer says something about masks that was not asked for."


def check_cells(reply: Reply, payload: Layout, bounds: Bounds) -> str:
    """Does no count, and no mean over all, rest on fewer patients than minimum_cell?

    A reply holds cases, of which a patient has one or more: of too few cases there are too few patients. The rooms that
    count know the patients and withhold more (telling.py).
    """
    small = [name for name, count in _list_counts(reply) if is_small([count], bounds.minimum_cell)]
    return f"{small[0]} rests on fewer patients than minimum_cell of the site file." if small else ""


def _list_counts(reply: Reply) -> Iterator[tuple[str, int]]:
    """Yield each count of a reply that must not be small, with a name for it."""
    cells = Counter[str]()
    for name, value in reply.metrics.items():
        split, _, metric = name.partition("/")
        group, _, rest = metric.partition("/")
        if group in (SCORES, DETECTIONS) and metric not in TOTALS:
            cells[f"{split}/{group}/{rest.partition('/')[2]}"] += int(value)  # both kinds of a cell together
        elif (split == COHORT and metric not in SCANNER_KEYS) or metric in (N, POSITIVES, *TOTALS):
            yield name, int(value)
        elif metric == LOSS and split == "train":
            yield name, reply.cases
    yield from cells.items()


# Each holds alone: tests/client/gate/test_gate_mutations.py takes out one after the other.
CHECKS: Mapping[str, Check] = {
    "site": check_site,
    "study": check_study,
    "place": check_place,
    "cases": check_cases,
    "names": check_names,
    "layout": check_layout,
    "finite": check_finite,
    "plan": check_plan,
    "size": check_size,
    "metrics": check_metrics,
    "asked": check_asked,
    "masks": check_masks,
    "cells": check_cells,
}
