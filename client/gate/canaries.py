"""The canaries of a run, which the site plants and the coordinator never learns of: their lots and scores, in
canaries/RUN.json beside the site file.
"""

import json
import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prostafed.common.privacy.audit import audit
from prostafed.common.shell.files import make_folder, write_bytes

_FOLDER = "canaries"
DOUBT = 0.05  # that a bound of a run is none


def draw_lots(folder: Path, run: str, count: int) -> tuple[bool, ...]:
    """Return for each canary of a run whether it takes part: drawn by fair lots before the first round, then kept."""
    kept = _read(folder, run)
    if not kept and count:
        kept = {
            "lots": [bool(secrets.randbits(1)) for _ in range(count)],
            "before": [0.0] * count,
            "last": {},
            "rounds": 1,
        }
        _write(folder, run, kept)
    return tuple(kept.get("lots", ()))


def keep_scores(folder: Path, run: str, attempt: str, scores: Sequence[float]) -> None:
    """Add the scores of a round; those of the same `attempt`, trained again after an interruption, replace its own."""
    kept = _read(folder, run)
    last = kept["last"]
    if last and last["attempt"] != attempt:
        kept["before"] = [old + new for old, new in zip(kept["before"], last["scores"], strict=True)]
        kept["rounds"] += 1
    _write(folder, run, {**kept, "last": {"attempt": attempt, "scores": list(scores)}})


def audit_run(folder: Path, run: str, delta: float) -> float | None:
    """Return the epsilon that the run's canaries show; None where it has none, or no score.

    It is looked at after every round, and a bound at 95 % each time would be wrong sooner or later. Over all looks
    together it is one at 95 %: the k-th has 6 / (pi k)^2 of the doubt, which comes to 1.
    """
    kept = _read(folder, run)
    if not kept.get("last"):
        return None
    scores = [old + new for old, new in zip(kept["before"], kept["last"]["scores"], strict=True)]
    return audit(kept["lots"], scores, delta, 1 - DOUBT * 6 / (math.pi * kept["rounds"]) ** 2)


def _read(folder: Path, run: str) -> dict[str, Any]:
    path = folder / _FOLDER / f"{run}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(folder: Path, run: str, kept: dict[str, Any]) -> None:
    write_bytes(make_folder(folder / _FOLDER) / f"{run}.json", json.dumps(kept).encode(), mode=0o600)
