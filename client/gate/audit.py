"""What happened at the site's gate, in order: one line each of a chained file, audit.jsonl beside the site file.

Events: "request", a study was asked for that nobody has approved; "approved" and "withdrawn" by a person; "received", a
request for an approved study came; "answered", what left; "refused", with the code that left; "held", "let go" and
"declined" of answers in the outbox; "halted", "went on" and "broken off" of all that leaves. No line holds a patient's
data or a pseudonym. A full file is audit-000001.jsonl and so on; the chain goes on from one to the next.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prostafed.common.errors import ApprovalError, CheckpointError
from prostafed.common.shell.chained_file import Head
from prostafed.common.shell.files import holding
from prostafed.common.shell.rotating import add_rotating, list_parts, read_latest, read_rotating

if TYPE_CHECKING:
    from prostafed.common.exchange.messages import Refusal, Reply, Request

FILE = "audit.jsonl"
MOST_SHOWN = 200  # characters of a text that came from outside
_SAID_AGAIN = ("received", "refused")  # a coordinator asks again and again, and is refused each time
_END = 8192  # bytes, in which the last two lines lie


def record(folder: Path, event: str, **facts: str | int) -> None:
    """Add a line to the audit of the site in `folder`: the time, `event` and `facts`; it is on the disk when this
    returns. A request that is refused once more is not written again, nor is its refusal.

    Only the last lines are read. Raises CheckpointError where they are damaged, StorageError where the disk is full.
    """
    path = folder / FILE
    said = {"event": event, **{name: limit(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}}
    with holding(path.with_suffix(".lock"), wait=True):
        if event in _SAID_AGAIN and said in _list_said(path):
            return
        add_rotating(path, {**said, "time": datetime.now(UTC).isoformat(timespec="seconds")})


def record_request(folder: Path, request: "Request") -> None:
    """Record what is asked for, before anything is done for it."""
    record(folder, "received", **_describe(request))


def record_answer(folder: Path, request: "Request | None", answer: "Reply | Refusal") -> None:
    """Record what leaves the site: of a reply how much, of a refusal its code. `request` is None where what came could
    not be read. That a study is not approved is recorded where it is found, by `require_approval`.
    """
    from prostafed.common.exchange.messages import Reply
    from prostafed.common.tensors import count_bytes

    asked = {} if request is None else _describe(request)
    if isinstance(answer, Reply):
        asked["study"] = answer.study_hash
        tensors, size, metrics = len(answer.tensors), count_bytes(answer.tensors), len(answer.metrics)
        record(folder, "answered", **asked, cases=answer.cases, tensors=tensors, bytes=size, metrics=metrics)
    elif answer.code != ApprovalError.code:
        record(folder, "refused", **asked, code=answer.code)


def read_audit(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the lines of a site's audit, and what is wrong with its files, "" where the chain holds; then the lines
    are those that can be read.
    """
    lines, _, wrong = read_whole(folder)
    return lines, wrong


def read_whole(folder: Path) -> tuple[list[dict[str, Any]], Head, str]:
    """Return what `read_audit` does, and the head of the chain, as long as it holds."""
    path = folder / FILE
    try:
        return *read_rotating(path), ""
    except CheckpointError as error:
        lines = []
        for line in b"\n".join(part.read_bytes() for part in list_parts(path)).splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict)], Head(), str(error)


def limit(text: str) -> str:
    """Return a text from outside as it may be written and shown: no control characters, no more than MOST_SHOWN."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MOST_SHOWN])


def _describe(request: "Request") -> dict[str, str | int]:
    asked: dict[str, str | int] = {"action": request.action, "run": request.run, "study": request.study_hash}
    return asked | {"stage": request.stage, "round": request.round}


def _list_said(path: Path) -> list[dict[str, Any]]:
    """Return the last line, and the one before it where both are about what is said again."""
    last = read_latest(path, _END)[-2:]
    if not all(line.get("event") in _SAID_AGAIN for line in last):
        last = last[-1:]
    return [{name: fact for name, fact in line.items() if name not in ("time", "number", "previous")} for line in last]
