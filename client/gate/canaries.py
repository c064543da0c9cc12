"""The canaries of a run, which the site plants and the coordinator never learns of: their lots and scores, in
canaries/RUN.json beside the site file.
"""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prostafed.common.privacy.audit import audit
from prostafed.common.shell.files import make_folder, write_bytes

_FOLDER = "canaries"


def draw_lots(folder: Path, run: str, count: int) -> tuple[bool, ...]:
    """Return for each canary of a run whether it takes part: drawn by fair lots before the first round, then kept."""
    kept = _read(folder, run)
    if not kept and count:
        kept = {"lots": [bool(secrets.randbits(1)) for _ in range(count)], "before": [0.0] * count, "last": {}}
        _write(folder, run, kept)
    return tuple(kept.get("lots", ()))


def keep_scores(folder: Path, run: str, attempt: str, scores: Sequence[float]) -> None:
    """Add the scores of a round; those of the same `attempt`, trained again after an interruption, replace its own."""
    kept = _read(folder, run)
    last = kept["last"]
    if last and last["attempt"] != attempt:
        kept["before"] = [old + new for old, new in zip(kept["before"], last["scores"], strict=True)]
    _write(folder, run, {**kept, "last": {"attempt": attempt, "scores": list(scores)}})


def audit_run(folder: Path, run: str, delta: float) -> float | None:
    """Return the epsilon that the run's canaries show, a lower bound at 95 %; None where it has none, or no score."""
    kept = _read(folder, run)
    if not kept.get("last"):
        return None
    scores = [old + new for old, new in zip(kept["before"], kept["last"]["scores"], strict=True)]
    return audit(kept["lots"], scores, delta)


def _read(folder: Path, run: str) -> dict[str, Any]:
    path = folder / _FOLDER / f"{run}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(folder: Path, run: str, kept: dict[str, Any]) -> None:
    write_bytes(make_folder(folder / _FOLDER) / f"{run}.json", json.dumps(kept).encode(), mode=0o600)
