"""What server and sites say to each other, without Flower; `wire.py` turns these into its messages and back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from prostafed.common.exchange.arrays import NOTHING, Layout
from prostafed.common.tensors import Tensors

SITE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
STUDY_HASH = re.compile(r"[a-z0-9]{0,64}")
MOST_STAGES, MOST_ROUNDS = 1000, 10**6

# Why a site refuses: all it says to the server, and how the server says it
REFUSALS: Mapping[str, str] = {
    "CONFIGURATION": "the site's own settings do not fit the study; its log says which",
    "DATA": "the site has no cases that the study can use; its log says why",
    "CHECKPOINT": "the tensors that were sent, or those the site keeps, do not fit the study; its log says which",
    "DIVERGED": "training ran away at the site; lower the stage's learning_rate",
    "RELEASE": "the site's last gate held the answer back; its log says what was about to leave",
    "STORAGE": "the site could not read or write a file, or its disk is full; its log says where",
    "MEMORY": "the site ran out of memory; its log says on which device",
    "UNKNOWN_REQUEST": "the site does not know such a request; compare the releases",
    "TEST_TOLD": "the site has told its test results of this stage already, and tells no others",
    "NOT_APPROVED": "the study is waiting for approval at the site",
    "APPROVAL_OVER": "the site's approval has ended, was withdrawn or is used up; the site has to approve again",
    "WRONG_RELEASE": "the site runs another release than the coordinator, or the run brought code of its own",
    "WRONG_INITIAL": "the weights to start from are not those of the file that the study names",
    "RESTING": "the site trains at other hours; its site file says which",
    "CRASHED": "the site's worker died twice on this request; its log may say why",
    "INTERNAL": "something failed at the site that the release does not foresee; its log says what",
}
UNKNOWN_REFUSAL = "UNKNOWN_REFUSAL"  # in the place of a code that is not among these


@dataclass(frozen=True)
class Request:
    """What the server asks of a site. `stage` counts from 1, `round` from 1; `splits` is for evaluations only.

    `returns` stays with who asks: the tensors that may come back; None takes any.
    """

    action: str  # "hello", "train" or "evaluate"
    run: str = ""
    study_hash: str = ""
    stage: int = 0
    round: int = 0
    tensors: Tensors = field(default_factory=dict)
    splits: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class Refusal:
    """A site did not do what it was asked: a code of REFUSALS, or wire.py's where nothing came that can be read; no
    text of its own, since texts can hold paths and names.
    """

    code: str
