"""What happened at the site's gate, in order: one line each of a chained file, audit.jsonl beside the site file.

Events: "request", a study was asked for that nobody has approved; "approved" and "withdrawn" by a person; "answered",
what left; "refused", with the code that left. No line holds a patient's data or a pseudonym.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prostafed.common.errors import ApprovalError, CheckpointError
from prostafed.common.shell.chained_file import add_line, read_chained, read_last
from prostafed.common.shell.files import holding

if TYPE_CHECKING:
    from prostafed.common.exchange.messages import Refusal, Reply, Request

FILE = "audit.jsonl"
MOST_SHOWN = 200  # characters of a text that came from outside


def record(folder: Path, event: str, **facts: str | int) -> None:
    """Add a line to the audit of the site in `folder`: the time, `event` and `facts`; it is on the disk when this
    returns. A refusal that says what the last line says is not written again.

    Only the last line is read. Raises CheckpointError where it is damaged, StorageError where the disk is full.
    """
    path = folder / FILE
    said = {"event": event, **{name: limit(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}}
    with holding(path.with_suffix(".lock"), wait=True):
        if event == "refused" and _without_place(read_last(path)) == said:
            return
        add_line(path, {**said, "time": datetime.now(UTC).isoformat(timespec="seconds")})


def record_answer(folder: Path, request: "Request | None", answer: "Reply | Refusal") -> None:
    """Record what leaves the site: of a reply how much, of a refusal its code. `request` is None where what came could
    not be read. That a study is not approved is recorded where it is found, by `require_approval`.
    """
    from prostafed.common.exchange.messages import Reply
    from prostafed.common.tensors import count_bytes

    asked: dict[str, str | int] = {}
    if request is not None:
        asked = {"action": request.action, "run": request.run, "stage": request.stage, "round": request.round}
        asked["study"] = request.study_hash
    if isinstance(answer, Reply):
        asked["study"] = answer.study_hash
        tensors, size, metrics = len(answer.tensors), count_bytes(answer.tensors), len(answer.metrics)
        record(folder, "answered", **asked, cases=answer.cases, tensors=tensors, bytes=size, metrics=metrics)
    elif answer.code != ApprovalError.code:
        record(folder, "refused", **asked, code=answer.code)


def read_audit(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the lines of a site's audit, and what is wrong with the file, "" where the chain holds; then the lines are
    those that can be read.
    """
    path = folder / FILE
    try:
        return read_chained(path), ""
    except CheckpointError as error:
        lines = []
        for line in path.read_bytes().splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return [line for line in lines if isinstance(line, dict)], str(error)


def limit(text: str) -> str:
    """Return a text from outside as it may be written and shown: no control characters, no more than MOST_SHOWN."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:MOST_SHOWN])


def _without_place(line: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in line.items() if name not in ("time", "number", "previous")}
