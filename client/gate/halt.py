"""The switch that stops all that leaves a site: a file `halted` beside the site file, made and removed by a person.

While it is there, the link answers the one word HALTED and nothing else. A refusal holds nothing of the site but this
decision, and a coordinator that knows it does not wait until its deadline; with silence it would. A file that cannot be
read stops everything as well.
"""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from prostafed.client.gate.audit import record
from prostafed.common.errors import ConfigurationError, HaltedError
from prostafed.common.shell.files import make_empty, remove, write_json

FILE = "halted"


def is_halted(folder: Path) -> bool:
    """Return whether nothing may leave the site in `folder`."""
    return (folder / FILE).exists()


def require_going(folder: Path) -> None:
    """Raise HaltedError where nothing may leave."""
    if is_halted(folder):
        raise HaltedError(f"{say_halt(folder)} To go on: prostafed-site go-on.")


def halt(folder: Path, by: str, reason: str = "") -> None:
    """Let nothing leave from now on; again is no error. The file is there before the audit says so."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    make_empty(folder / FILE)  # an empty one halts as well, and fits on a full disk
    write_json(folder / FILE, {"at": at, "by": by, "reason": reason})
    record(folder, "halted", by=by, reason=reason)


def go_on(folder: Path, by: str) -> None:
    """Let the site work again; raises ConfigurationError where it does."""
    if not is_halted(folder):
        raise ConfigurationError("This site is not halted. Nothing was changed.")
    record(folder, "went on", by=by)
    remove(folder / FILE)


def say_halt(folder: Path) -> str:
    """Return since when, by whom and why nothing leaves, as a sentence; "" where it does."""
    if not is_halted(folder):
        return ""
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        reason = f": {str(found['reason']).rstrip('.')}" if found["reason"] else ""
        return f"Halted since {str(found['at'])[:16]} UTC by {found['by']}{reason}. Nothing leaves this site."
    return f"Halted: there is a file {folder / FILE}. Nothing leaves this site."
