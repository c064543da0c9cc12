"""Admission before arithmetic: a reply that does not fit the round is left out, with a code in the round record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from prostafed.common.compression import decode
from prostafed.common.errors import CheckpointError
from prostafed.common.messages import Reply, Request
from prostafed.common.tensors import Tensors, check_layout, cut
from prostafed.server.parallel import for_each

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

    norms: tuple[float, ...] = ()
    fingerprints: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # site -> of each of its payloads

    def after(self, admitted: Mapping[str, "Admitted"]) -> "History":
        """Return the history with a round's admitted updates, by site."""
        norms = self.norms + tuple(admitted[site].norm for site in sorted(admitted))
        seen = {site: (*self.fingerprints.get(site, ()), each.fingerprint) for site, each in admitted.items()}
        return History(norms, {**self.fingerprints, **seen})


@dataclass(frozen=True)
class Admitted:
    """An update that may be aggregated; `tensors` are whole again, whatever way they travelled."""

    tensors: Tensors
    norm: float  # of the difference to what was sent
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


def admit_update(reply: Reply, sent: Tensors, compress: str, norm_limit: float, history: History) -> Admitted:
    """Return the update `reply` holds; raises RejectedError where it cannot be decoded, has other names, shapes or
    dtypes than `sent`, is not finite, is far larger than usual, or was sent before.

    `norm_limit` times the median norm of `history` is the most that is taken; 0 takes any.
    """
    try:
        tensors = decode(sent, reply.tensors, compress)
        check_layout(sent, tensors)
    except CheckpointError as error:
        raise RejectedError("WRONG_TENSORS", str(error)) from error
    norm = measure_update(tensors, sent)
    usual = median(history.norms) if norm_limit and len(history.norms) >= FEWEST_NORMS else 0.0
    if usual and norm > norm_limit * usual:
        raise RejectedError("TOO_FAR", f"the update's norm is {norm:.3g}, the usual one {usual:.3g}")
    fingerprint = take_fingerprint(reply.tensors)
    if norm and fingerprint in history.fingerprints.get(reply.site, ()):
        raise RejectedError("REPLAYED", "the same tensors were sent in an earlier round")
    return Admitted(tensors, norm, fingerprint)


def measure_update(tensors: Tensors, sent: Tensors) -> float:
    """Return the Euclidean norm of tensors - sent over the floating ones; raises RejectedError where one of them holds
    a value that is not finite.
    """
    floating = [name for name, array in tensors.items() if np.issubdtype(array.dtype, np.floating)]
    return math.sqrt(sum(for_each(lambda name: _squared_distance(name, tensors[name], sent[name]), floating)))


def _squared_distance(name: str, array: npt.NDArray[Any], start: npt.NDArray[Any]) -> float:
    flat, before, squared = array.reshape(-1), start.reshape(-1), 0.0
    for block in cut(flat.size):
        difference = flat[block] - before[block]
        with np.errstate(over="ignore"):
            part = float(np.dot(difference, difference))
        if not np.isfinite(part):  # a value that is not finite, or finite ones whose squares are not
            if not np.isfinite(flat[block]).all():
                raise RejectedError("NOT_FINITE", f"{name} holds values that are not finite")
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
