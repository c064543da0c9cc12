"""A coordinator's home as commands see it: its files, and the link that runs on it. Flower is not loaded for it."""

import json
from pathlib import Path
from typing import Any

import httpx

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.files import is_held

FILE = "link.json"  # where the link that runs on the home answers
AUDIT, LOCK = "door.jsonl", "link.lock"
LOG = Path("logs") / "link.log"
LEAST_FREE_GB = 0.5  # of disk; below, rounds are lost
_ANSWER_S = 60.0


def is_running(home: Path) -> bool:
    """Return whether a link runs on this home."""
    return is_held(home / LOCK)


def ask_link(home: Path, command: str, **values: object) -> dict[str, Any]:
    """Return what the link that runs on `home` answers to a command; raises ConfigurationError where none runs, or it
    refuses.
    """
    try:
        socket = json.loads((home.resolve() / FILE).read_text(encoding="utf-8"))["control"]
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), trust_env=False, timeout=_ANSWER_S) as client:
            answer = client.post(f"http://link/{command}", content=json.dumps(values).encode())
    except (OSError, httpx.TransportError, ValueError, KeyError, TypeError) as error:  # damaged
        raise ConfigurationError(f"No link runs on {home}. Start it: prostafed-server start.") from error
    found: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        raise ConfigurationError(str(found.get("error", "The link refused and gave no reason.")))
    return found
