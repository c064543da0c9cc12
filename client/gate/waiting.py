"""Studies that wait for approval: a coordinator asked for them; requests/HASH.json beside the site file.

A coordinator can fill no disk with them: there are few, and each is short. The one asked for longest ago makes room.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prostafed.client.gate.audit import record
from prostafed.common.errors import MaskError, ProstafedError
from prostafed.common.shell.files import holding, make_folder, write_json
from prostafed.common.study import Study, parse_study

if TYPE_CHECKING:
    from prostafed.common.exchange.messages import Request

FOLDER = "requests"
MOST_WAITING, MOST_BYTES = 50, 1_000_000


@dataclass(frozen=True)
class Waiting:
    """A study that waits for approval; times are UTC, in ISO format."""

    study: Study
    first_asked: str
    last_asked: str
    asked: int  # how often
    coordinator: str  # the address that the site is connected to
    peers: Mapping[str, str] = field(default_factory=dict)  # of a masked study: who is enrolled, name -> public key


def read_peers(request: "Request") -> dict[str, str]:
    """Return the enrolled hospitals that a request names, {} where it names none."""
    from prostafed.common.secagg.records import Call, Enrolled

    with suppress(MaskError):
        if request.action == "hello" and request.masks:
            return dict(Enrolled.read(request.masks).sites)
        if request.action == "keys":
            return dict(Call.read(request.masks).enrolled)
    return {}


def file_request(site_folder: Path, study: Study, coordinator: str, peers: Mapping[str, str] | None = None) -> None:
    """File a study as waiting, or count that it was asked for again; the first time stands in the audit. One that is
    longer than MOST_BYTES is not filed.
    """
    canonical, digest = study.canonical(), study.hash()
    if len(canonical) > MOST_BYTES:
        record(site_folder, "refused", study=digest, code="NOT_APPROVED", reason="the study is too long to be filed")
        return
    folder, now = make_folder(site_folder / FOLDER), datetime.now(UTC).isoformat(timespec="seconds")
    with holding(folder / ".lock", wait=True):
        before = _read(folder / f"{digest}.json")
        if before is None:
            record(site_folder, "request", study=digest, name=study.name, coordinator=coordinator)
            there = _by_age(folder)
            for old in there[: max(0, len(there) - MOST_WAITING + 1)]:
                old.unlink()
        first, asked = (before.first_asked, before.asked + 1) if before else (now, 1)
        named = dict(peers or (before.peers if before else {}))
        waiting = Waiting(study, first, now, asked, coordinator, named)
        write_json(folder / f"{digest}.json", {**vars(waiting), "study": canonical})


def list_waiting(site_folder: Path) -> Mapping[str, Waiting]:
    """Return the studies that wait, by hash, the one asked for last first; a damaged file is none."""
    folder = site_folder / FOLDER
    if not folder.is_dir():
        return {}
    with holding(folder / ".lock", wait=True):
        found = {path.stem: _read(path) for path in reversed(_by_age(folder))}
    return {digest: waiting for digest, waiting in found.items() if waiting is not None}


def forget_request(site_folder: Path, study_hash: str) -> None:
    """Remove a study from those that wait."""
    if (folder := site_folder / FOLDER).is_dir():
        with holding(folder / ".lock", wait=True):
            (folder / f"{study_hash}.json").unlink(missing_ok=True)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def _read(path: Path) -> Waiting | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        waiting = Waiting(**{**found, "study": parse_study(found["study"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ProstafedError):
        return None
    texts = (waiting.first_asked, waiting.last_asked, waiting.coordinator)
    if not isinstance(waiting.peers, dict):
        return None
    texts += (*waiting.peers.keys(), *waiting.peers.values())
    sound = type(waiting.asked) is int and all(isinstance(text, str) for text in texts)
    return waiting if sound and waiting.study.hash() == path.stem else None
