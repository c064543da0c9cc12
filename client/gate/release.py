"""The last gate: what leaves a site is on a list, or does not leave."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch

from prostafed.common.errors import ProstafedError
from prostafed.common.exchange.compression import PLACES, VALUES
from prostafed.common.exchange.messages import REFUSALS, Refusal, Reply
from prostafed.common.exchange.released import is_released
from prostafed.common.tensors import Tensors

BESIDE = {"scaffold": "control."}  # rule of a site -> prefix of what it sends beside each floating shared tensor


class ReleaseError(ProstafedError):
    """Something that must not leave the site was about to."""

    code = "RELEASE"


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
    """Return `reply` unchanged if its tensors have exactly these names and its metrics are listed and in range; else
    raise ReleaseError.

    Nothing else of a reply is free text: the site's name is its enrolled one.
    """
    if odd := sorted(set(reply.tensors) ^ set(names)):
        raise ReleaseError(f"What is about to leave is not what the study sends, e.g. {odd[0]}. Nothing was sent.")
    _check_metrics(reply.metrics)
    return reply


def refuse(error: BaseException) -> Refusal:
    """Return what may be said of a failure: one of the codes of REFUSALS, whatever was raised."""
    if isinstance(error, ProstafedError):
        code = error.code
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        code = "MEMORY"
    else:
        code = "STORAGE" if isinstance(error, OSError) else "INTERNAL"
    return Refusal(code if code in REFUSALS else "INTERNAL")


def _check_metrics(metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        if not is_released(name, value):
            raise ReleaseError(
                f"The metric {name} is not one that may leave the site, or not in its range. Nothing was sent."
            )
