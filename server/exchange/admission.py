"""Admission before arithmetic: a reply that does not fit the round is left out, with a code in the round record."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.compression import decode
from prostafed.common.exchange.messages import Reply, Request
from prostafed.common.tensors import Tensors, check_layout, cut
from prostafed.server.exchange.parallel import for_each

NETWORK = "network"
BESIDE = "tensors beside the network"
FEWEST_NORMS = 5  # before the median of fewer updates says what is usual


class RejectedError(Exception):
    """A reply was not admitted; `code` and the text go into the round record."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class History:
    """What earlier rounds of a stage admitted; a round's own replies are added at its end, so that the order in which
    they arrive decides nothing.
    """

    norms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by group of tensors
    fingerprints: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # site -> of each of its payloads

    def after(self, admitted: Mapping[str, "Admitted"]) -> "History":
        """Return the history with a round's admitted updates, by site."""
        updates = [admitted[site] for site in sorted(admitted)]
        groups = sorted({group for each in updates for group in each.norms} | self.norms.keys())
        found = {group: tuple(each.norms[group] for each in updates if group in each.norms) for group in groups}
        norms = {group: (*self.norms.get(group, ()), *found[group]) for group in groups}
        seen = {site: (*self.fingerprints.get(site, ()), each.fingerprint) for site, each in admitted.items()}
        return History(norms, {**self.fingerprints, **seen})


@dataclass(frozen=True)
class Admitted:
    """An update that may be aggregated; `tensors` are whole again, whatever way they travelled."""

    tensors: Tensors
    norms: Mapping[str, float]  # of the difference to what was sent, by group of tensors
    fingerprint: int  # of what travelled


def admit(reply: Reply, request: Request, site: str) -> None:
    """Raise RejectedError unless `reply` answers `request` for `site`."""
    if reply.site != site:
        raise RejectedError("WRONG_NAME", f"the reply names site {reply.site}; mend the name in its site file")
    if reply.study_hash != request.study_hash:
        raise RejectedError("WRONG_STUDY", f"the reply is for study {reply.study_hash[:12]}")
    if (reply.stage, reply.round) != (request.stage, request.round):
        raise RejectedError("WRONG_ROUND", f"the reply is for stage {reply.stage}, round {reply.round}")
    if reply.cases < 1 and request.action == "train":
        raise RejectedError("NO_CASES", f"the reply counts {reply.cases} cases")


def read_cohort(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the counts of cases among a site's `metrics`, by "attribute/value"."""
    return {name.removeprefix("cohort/"): value for name, value in metrics.items() if name.startswith("cohort/")}


def admit_update(
    reply: Reply, sent: Tensors, beside: Collection[str], compress: str, norm_limit: float, history: History
) -> Admitted:
    """Return the update `reply` holds; raises RejectedError where it cannot be decoded, has other names, shapes or
    dtypes than `sent`, is not finite, is far larger than usual, or was sent before.

    `beside` names what of `sent` travels beside the network. `norm_limit` times the median norm of `history` is the
    most that is taken of each group of tensors; 0 takes any.
    """
    try:
        tensors = decode(sent, reply.tensors, compress)
        check_layout(sent, tensors)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    norms = measure_update(tensors, sent, beside)
    for group, norm in norms.items():
        _check_norm(group, norm, norm_limit, history.norms.get(group, ()))
    fingerprint = take_fingerprint(reply.tensors)
    if any(norms.values()) and fingerprint in history.fingerprints.get(reply.site, ()):
        raise RejectedError("REPLAYED", "the same tensors were sent in an earlier round")
    return Admitted(tensors, norms, fingerprint)


def _check_norm(group: str, norm: float, limit: float, before: tuple[float, ...]) -> None:
    usual = median(before) if limit and len(before) >= FEWEST_NORMS else 0.0
    if not math.isfinite(norm) or (usual and norm > limit * usual):
        raise RejectedError(
            "TOO_FAR",
            f"its {group} moved by {norm:.3g} (L2 norm of the update); usual are {usual:.3g}, and norm_limit takes "
            f"{limit:g} times that. Lower the stage's learning_rate if training diverged there, or raise norm_limit",
        )


def measure_update(tensors: Tensors, sent: Tensors, beside: Collection[str]) -> dict[str, float]:
    """Return the Euclidean norm of tensors - sent over the floating ones, of the network and of what travels `beside`
    it apart: control variates are of gradients' size, and one sum would hide either behind the other.

    Raises RejectedError where a tensor holds a value that is not finite.
    """
    floating = [name for name, array in tensors.items() if np.issubdtype(array.dtype, np.floating)]
    # What comes beside the network is a change already.
    starts = {name: np.zeros_like(sent[name]) if name in beside else sent[name] for name in floating}
    squares = for_each(lambda name: _squared_distance(name, tensors[name], starts[name]), floating)
    sums = {NETWORK: 0.0}
    for name, squared in zip(floating, squares, strict=True):
        group = BESIDE if name in beside else NETWORK
        sums[group] = sums.get(group, 0.0) + squared
    return {group: math.sqrt(total) for group, total in sums.items()}


def _squared_distance(name: str, array: npt.NDArray[Any], start: npt.NDArray[Any]) -> float:
    flat, before, squared = array.reshape(-1), start.reshape(-1), 0.0
    for block in cut(flat.size):
        difference = flat[block] - before[block]
        with np.errstate(over="ignore"):
            part = float(np.dot(difference, difference))
        if not np.isfinite(part):  # a value that is not finite, or finite ones whose squares are not
            if not np.isfinite(flat[block]).all():
                text = f"{name} holds values that are not finite; if training diverged, lower the stage's learning_rate"
                raise RejectedError("NOT_FINITE", text)
            with np.errstate(over="ignore"):
                part = float(np.sum(np.square(difference, dtype=np.float64)))
        squared += part
    return squared


def take_fingerprint(tensors: Tensors) -> int:
    """Return a number that two payloads share by accident only: the sums of their bytes, taken as 64-bit words.

    It tells a repeated answer from a new one at the speed of memory; it is no defence against somebody who alters a
    bit.
    """
    return hash(tuple(for_each(lambda name: _sum_words(tensors[name]), sorted(tensors)))) & (2**63 - 1)


def _sum_words(array: npt.NDArray[Any]) -> tuple[int, int]:
    data = np.asarray(array, order="C").reshape(-1).view(np.uint8)
    whole = len(data) - len(data) % 8
    return int(data[:whole].view(np.uint64).sum()), int.from_bytes(data[whole:].tobytes(), "big")
