"""The outbox: every answer with tensors or metrics that left, and every update that waits for a person to let it leave.

outbox.jsonl beside the site file is chained as the audit is. Lines: "left", written before it leaves; "held", an update
waits; "released" and "declined", what a person decided of line `of`; "broken off", the rest of what was under way was
not sent. A held update lies in the site's memory, where every answer is kept.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prostafed.client.gate.audit import limit, record
from prostafed.common.errors import ConfigurationError, DeclinedError, HeldError
from prostafed.common.shell.files import holding
from prostafed.common.shell.rotating import add_rotating, list_parts, read_rotating

if TYPE_CHECKING:
    from prostafed.common.exchange.messages import Reply, Request

FILE = "outbox.jsonl"
DECISIONS = ("released", "declined")
_PLACE = ("run", "study", "stage", "round")


@dataclass(frozen=True)
class Entry:
    """A line of the outbox about an answer, and what was decided of it; `state` is left, waiting, released, declined,
    replaced (another update of that round waits since) or broken off.
    """

    number: int
    state: str
    line: Mapping[str, Any]
    by: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for a program."""
        line = {name: value for name, value in self.line.items() if name not in ("event", "previous")}
        return {**line, "state": self.state, "by": self.by, "reason": self.reason}


def note_left(folder: Path, request: "Request", reply: "Reply") -> None:
    """Enter an answer that is about to leave; one without tensors, metrics and masks is not. Raises CheckpointError
    where the outbox is damaged, StorageError where the disk is full: then nothing may leave.
    """
    if reply.tensors or reply.metrics or reply.masks:
        _add(folder, {"event": "left", **_describe(request, reply)})


def require_release(folder: Path, request: "Request", reply: "Reply") -> None:
    """Return where a person has let this very update leave.

    Raises HeldError, and enters it as held, as long as nobody has decided; DeclinedError where somebody has declined
    what this site made of the round.
    """
    require_undeclined(folder, request)
    about = _describe(request, reply)
    with _locked(folder):
        alike = [each for each in _read(folder) if each.line["event"] == "held" and about.items() <= each.line.items()]
        if alike and alike[-1].state == "released":
            return
        if not alike:
            _write(folder, {"event": "held", **about})
            record(folder, "held", **{name: about[name] for name in (*_PLACE, "sha256")})
    raise HeldError(
        f"The update of stage {request.stage}, round {request.round} waits for you: prostafed-site outbox shows it."
    )


def require_undeclined(folder: Path, request: "Request") -> None:
    """Raise DeclinedError where a person has declined what this site made of a round: that is final for it."""
    if is_decided(folder, request.run, request.stage, request.round, "declined"):
        raise DeclinedError(
            f"The update of stage {request.stage}, round {request.round} of {request.run} was declined at this site."
        )


def is_decided(folder: Path, run: str, stage: int, number: int, state: str) -> bool:
    """Return whether an update of this round has the `state`: declined, or waiting."""
    place = {"run": limit(run), "stage": stage, "round": number}
    return any(each.state == state and place.items() <= each.line.items() for each in read_outbox(folder))


def decide(folder: Path, number: int, decision: str, by: str, reason: str = "") -> Entry:
    """Let a held update leave ("released") or not ("declined"), and return its entry. `reason` stays here."""
    assert decision in DECISIONS
    with _locked(folder):
        entry = next((each for each in _read(folder) if each.number == number), None)
        if entry is None or entry.state != "waiting":
            found = "there is none" if entry is None else f"it is {entry.state}"
            raise ConfigurationError(
                f"Expected the number of an update that waits; {found} with number {number}. prostafed-site outbox "
                "lists them."
            )
        facts = {name: entry.line[name] for name in (*_PLACE, "sha256")}
        record(folder, "let go" if decision == "released" else decision, by=by, reason=reason, **facts)
        _write(folder, {"event": decision, "of": number, "by": by, "reason": reason})
    return entry


def note_broken_off(folder: Path, run: str, stage: int, number: int) -> None:
    """Enter that an answer was not sent to its end; raises as `note_left` does."""
    record(folder, "broken off", run=run, stage=stage, round=number)
    _add(folder, {"event": "broken off", "run": limit(run), "stage": stage, "round": number})


def read_outbox(folder: Path) -> list[Entry]:
    """Return the answers that left or were held, in order; raises CheckpointError where the outbox is damaged."""
    if not list_parts(folder / FILE):
        return []
    with _locked(folder):
        return _read(folder)


def _read(folder: Path) -> list[Entry]:
    lines, _ = read_rotating(folder / FILE)
    decided = {line["of"]: line for line in lines if line["event"] in DECISIONS}
    held = {_place(line): line["number"] for line in lines if line["event"] == "held"}  # the last of each round
    entries = []
    for line in lines:
        number, event = line["number"], line["event"]
        if decision := decided.get(number):
            entries.append(Entry(number, decision["event"], line, decision["by"], decision["reason"]))
        elif event not in DECISIONS:
            state = event if event != "held" else "waiting" if held[_place(line)] == number else "replaced"
            entries.append(Entry(number, state, line))
    return entries


def _place(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in _PLACE)


def _describe(request: "Request", reply: "Reply") -> dict[str, Any]:
    """Return what the outbox tells of an answer: how much and under which names, no number of it."""
    from prostafed.common.exchange.compression import PLACES, VALUES
    from prostafed.common.tensors import count_bytes, group_of, hash_tensors

    names = [name.removeprefix(PLACES).removeprefix(VALUES) for name in reply.tensors]
    figures = json.dumps([reply.cases, sorted(reply.metrics.items())])
    masks = {"masks_sha256": hashlib.sha256(reply.masks).hexdigest()} if reply.masks else {}
    return {
        **masks,
        "kind": request.action,
        "run": limit(request.run),
        "study": reply.study_hash,
        "stage": reply.stage,
        "round": reply.round,
        "cases": reply.cases,
        "sha256": hash_tensors(reply.tensors),
        "bytes": count_bytes(reply.tensors) + len(reply.masks),
        "tensors": len(reply.tensors),
        "groups": sorted(set(map(group_of, names))),
        "metrics": sorted(reply.metrics),
        "figures_sha256": hashlib.sha256(figures.encode()).hexdigest(),
    }


def _add(folder: Path, line: Mapping[str, Any]) -> None:
    with _locked(folder):
        _write(folder, line)


def _write(folder: Path, line: Mapping[str, Any]) -> None:
    add_rotating(folder / FILE, {**line, "time": datetime.now(UTC).isoformat(timespec="seconds")})


def _locked(folder: Path) -> Any:
    return holding((folder / FILE).with_suffix(".lock"), wait=True)
