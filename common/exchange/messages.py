"""What server and sites say to each other, without Flower; `wire.py` turns these into its messages and back."""

import re
from dataclasses import dataclass, field

from prostafed.common.exchange.arrays import NOTHING, Layout
from prostafed.common.tensors import Tensors

SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
STUDY_HASH = re.compile(r"[a-z0-9]{0,64}")
MOST_STAGES, MOST_ROUNDS = 1000, 10**6
MOST_MASK_BYTES = 4_000_000  # of what is said about masks: 50 sites, each with a sealed share for each of the others


@dataclass(frozen=True)
class Request:
    """What the server asks of a site. `stage` counts from 1, `round` from 1; `splits` is for evaluations only.

    `returns` stays with who asks: the tensors that may come back; None takes any.
    """

    action: str  # of MESSAGE_TYPES
    run: str = ""
    study_hash: str = ""
    stage: int = 0
    round: int = 0
    tensors: Tensors = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    masks: bytes = b""  # a record of common/secagg; to "hello", the enrolled sites
    returns: Layout | None = NOTHING


@dataclass(frozen=True)
class Reply:
    """What a site answers: shared tensors and aggregates, never a value of one case. Metrics are named
    "split/metric".
    """

    site: str
    study_hash: str = ""
    stage: int = 0
    round: int = 0
    cases: int = 0
    tensors: Tensors = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    masks: bytes = b""  # a record of common/secagg


@dataclass(frozen=True)
class Refusal:
    """A site did not do what it was asked: a code of REFUSALS, or wire.py's where nothing came that can be read; no
    text of its own, since texts can hold paths and names.
    """

    code: str
