"""What a link and its worker say to each other, beside answers, which are fleet.py's Outgoing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prostafed.client.connect.fleet import Incoming, Value


@dataclass(frozen=True)
class Part:
    """An object of a message. They go one by one, so that no copy of all of them is made."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Ready:
    """The worker has loaded all it needs; `device` is the GPU it sees, or cpu."""

    device: str


@dataclass(frozen=True)
class Ask:
    """A message to answer; its parts went before."""

    incoming: Incoming
    config: Mapping[str, Value]
