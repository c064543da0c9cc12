"""The last gate: what leaves a site is on a list, or does not leave."""

from typing import NewType

import torch

from prostafed.client.gate.checks import CHECKS, Bounds
from prostafed.common.errors import ProstafedError
from prostafed.common.exchange.arrays import Layout
from prostafed.common.exchange.kinds import REFUSALS
from prostafed.common.exchange.messages import Refusal, Reply
from prostafed.common.tensors import Tensors

Released = NewType("Released", Reply)  # an answer that passed the gate; only `release` makes one


class ReleaseError(ProstafedError):
    """Something that must not leave the site was about to."""

    code = "RELEASE"


def check_update(update: Tensors, allowed: Tensors) -> None:
    """Raise ReleaseError unless `update`, before compression, has exactly the names and shapes of `allowed`."""
    shapes = {name: array.shape for name, array in allowed.items()}
    found = {name: array.shape for name, array in update.items()}
    if found != shapes:
        odd = sorted(set(found) ^ set(shapes)) or sorted(name for name in found if found[name] != shapes[name])
        raise ReleaseError(f"Tensors about to leave are not those the study shares, e.g. {odd[0]}. Nothing was sent.")


def check_answer(reply: Reply, payload: Layout, bounds: Bounds) -> None:
    """Raise ReleaseError unless `reply` passes every one of CHECKS: its tensors are those of `payload`, its numbers are
    listed, and it is what was asked for.
    """
    for check in CHECKS.values():
        if problem := check(reply, payload, bounds):
            raise ReleaseError(f"{problem} Nothing was sent.")


def release(reply: Reply, payload: Layout, bounds: Bounds) -> Released:
    """Return `reply` unchanged if it passes `check_answer`. This is the one way out of a site, and has one caller."""
    check_answer(reply, payload, bounds)
    return Released(reply)


def refuse(error: BaseException) -> Refusal:
    """Return what may be said of a failure: one of the codes of REFUSALS, whatever was raised."""
    if isinstance(error, ProstafedError):
        code = error.code
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        code = "MEMORY"
    else:
        code = "STORAGE" if isinstance(error, OSError) else "INTERNAL"
    return Refusal(code if code in REFUSALS else "INTERNAL")
