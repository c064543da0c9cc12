"""The last gate: what leaves a site is on a list, or does not leave."""

import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from prostafed.common.compression import PLACES, VALUES
from prostafed.common.errors import ProstafedError
from prostafed.common.messages import Reply
from prostafed.common.metrics.cohort import COHORT_KEYS
from prostafed.common.metrics.histogram_floats import HISTOGRAM_KEYS
from prostafed.common.metrics.summary import SUMMARY_KEYS
from prostafed.common.tensors import Tensors

SPLITS = ("train", "validation", "test")
COHORT = "cohort"  # in the place of a split: counts of cases by attribute
RELEASED_METRICS = frozenset({"loss", "steps", "generated", "n", "positives", *SUMMARY_KEYS, *HISTOGRAM_KEYS})
BESIDE = {"scaffold": "control."}  # rule of a site -> prefix of what it sends beside each floating shared tensor


class ReleaseError(ProstafedError):
    """Something that must not leave the site was about to."""


def list_update(network: Tensors, shared: Iterable[str], rule: str) -> Tensors:
    """Return what an update has to look like: the shared tensors of a network and, under a rule that sends more, as
    many of their kind beside them.
    """
    layout = {name: network[name] for name in shared}
    if rule in BESIDE:
        floating = [name for name, array in layout.items() if np.issubdtype(array.dtype, np.floating)]
        layout |= {BESIDE[rule] + name: layout[name] for name in floating}
    return layout


def check_update(update: Tensors, layout: Tensors) -> None:
    """Raise ReleaseError unless `update`, as it is before compression, has exactly the names and shapes of `layout`."""
    allowed = {name: array.shape for name, array in layout.items()}
    found = {name: array.shape for name, array in update.items()}
    if found != allowed:
        odd = sorted(set(found) ^ set(allowed)) or sorted(name for name in found if found[name] != allowed[name])
        raise ReleaseError(f"Tensors about to leave are not those the study shares, e.g. {odd[0]}. Nothing was sent.")


def list_payload(layout: Tensors, compress: str) -> frozenset[str]:
    """Return the names an update of `layout` travels under."""
    if compress != "topk":
        return frozenset(layout)
    floating = {name for name, array in layout.items() if np.issubdtype(array.dtype, np.floating)}
    return frozenset({prefix + name for prefix in (PLACES, VALUES) for name in floating} | (set(layout) - floating))


def release(reply: Reply, names: Collection[str]) -> Reply:
    """Return `reply` unchanged if its tensors have exactly these names and its metrics are listed and finite; else
    raise ReleaseError.

    Nothing else of a reply is free text: the site's name is its enrolled one.
    """
    if odd := sorted(set(reply.tensors) ^ set(names)):
        raise ReleaseError(f"What is about to leave is not what the study sends, e.g. {odd[0]}. Nothing was sent.")
    _check_metrics(reply.metrics)
    return reply


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        split, _, metric = name.partition("/")
        listed = metric in COHORT_KEYS if split == COHORT else split in SPLITS and metric in RELEASED_METRICS
        if not listed or not math.isfinite(value):
            raise ReleaseError(
                f"The metric {name} is not one that may leave the site, or not finite. Nothing was sent."
            )
