"""What server and sites say to each other, without Flower; `wire.py` turns these into its messages and back."""

from dataclasses import dataclass, field

from prostafed.common.tensors import Tensors


@dataclass(frozen=True)
class Request:
    """What the server asks of a site. `stage` counts from 1, `round` from 1; `splits` is for evaluations only."""

    action: str  # "hello", "train" or "evaluate"
    run: str = ""
    study_hash: str = ""
    stage: int = 0
    round: int = 0
    tensors: Tensors = field(default_factory=dict)
    splits: tuple[str, ...] = ()


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
    """A site did not do what it was asked: a code, no text of its own, since texts can hold paths and names."""

    code: str
