"""The last gate: what leaves a site is on a list, or does not leave."""

import math
from collections.abc import Mapping, Sequence

from prostafed.common.errors import ProstafedError
from prostafed.common.messages import Reply
from prostafed.common.metrics.summary import SUMMARY_KEYS
from prostafed.common.tensors import Tensors, group_of

SPLITS = ("train", "validation", "test")
RELEASED_METRICS = frozenset({"loss", "generated", "n", "positives", *SUMMARY_KEYS})


class ReleaseError(ProstafedError):
    """Something that must not leave the site was about to."""


def release(reply: Reply, expected: Tensors, share: Sequence[str]) -> Reply:
    """Return `reply` unchanged if it holds exactly the shared tensors and listed, finite metrics; else raise
    ReleaseError.

    `expected` holds the network's tensors. Nothing else of a reply is free text: the site's name is its enrolled one.
    """
    allowed = {name: array.shape for name, array in expected.items() if group_of(name) in share}
    found = {name: array.shape for name, array in reply.tensors.items()}
    if found and found != allowed:
        unlisted = sorted(set(found) - set(allowed)) or sorted(allowed)
        raise ReleaseError(
            f"Tensors about to leave are not those the study shares, e.g. {unlisted[0]}. Nothing was sent."
        )
    _check_metrics(reply.metrics)
    return reply


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        split, _, metric = name.partition("/")
        if split not in SPLITS or metric not in RELEASED_METRICS or not math.isfinite(value):
            raise ReleaseError(
                f"The metric {name} is not one that may leave the site, or not finite. Nothing was sent."
            )
