"""Patients who object to the use of their data: none of them is trained on, judged or counted from the next request on.

The manifest says who objects (opt_out), and `prostafed-site index` keeps it: memory/opted_out.json holds pseudonyms and
since when. They stay there, and in memory/sides.json and the ledger: so it can be told what somebody contributed to,
and nobody who was trained on is ever tested. What networks have learnt cannot be unlearnt.
"""

import json
from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prostafed.client.gate.ledger import list_contributions
from prostafed.common.errors import DataError
from prostafed.common.imaging.case_folder import CaseFolder
from prostafed.common.imaging.folds import Splits
from prostafed.common.shell.files import holding, make_folder, write_json, write_text

FILE = "opted_out.json"


def read_opted_out(memory: Path) -> Mapping[str, str]:
    """Return since when each patient objects, by pseudonym; raises DataError where the file is damaged."""
    path = memory / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(since, str) for since in found.values()):
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass
    raise DataError(
        f"{path} is damaged: it says which patients object to the use of their data. Restore it from a copy; without "
        "one, remove it and run prostafed-site index."
    )


def keep_opted_out(memory: Path, objecting: Set[str], willing: Set[str]) -> frozenset[str]:
    """Keep who objects, and return those who did not before. Whoever objected before still does, unless he is among the
    `willing`: those of whom the manifest says so now.

    What the site made of them and has not sent is removed; see `forget`.
    """
    if not objecting and not (memory / FILE).exists():
        return frozenset()
    path = make_folder(memory) / FILE
    with holding(path.with_suffix(".lock"), wait=True):
        before = dict(read_opted_out(memory))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = {name: since for name, since in before.items() if name in objecting or name not in willing}
        kept |= {name: now for name in objecting if name not in kept}
        if kept != before:
            write_json(path, kept)
    new = frozenset(objecting - before.keys())
    if new:
        forget(memory, new)
    return new


def forget(memory: Path, patients: Collection[str]) -> None:
    """Remove from a site's memory what was predicted of `patients`, and all that was trained and may not have left:
    kept answers and rounds in the making. They are trained anew where somebody asks.
    """
    for path in memory.glob("*/stage-*/predictions-*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["patient_id"] not in patients]
        if kept != lines:
            write_text(path, "".join(kept))
    for pattern in ("answer-*.safetensors", "partial-*.pt"):
        for path in memory.glob(f"*/stage-*/{pattern}"):
            path.unlink(missing_ok=True)


def describe_withdrawn(folder: Path, patients: Collection[str]) -> list[dict[str, Any]]:
    """Return, for each of `patients` of the site in `folder`, "patient" and "contributed", what the ledger lists."""
    return [{"patient": name, "contributed": list_contributions(folder, name)} for name in sorted(patients)]


def leave_out(cases: CaseFolder, splits: Splits, patients: Collection[str]) -> tuple[CaseFolder, Splits]:
    """Return cases and splits without those of `patients`."""
    kept = [index for index, record in enumerate(cases.records) if record.patient_id not in patients]
    number = {index: position for position, index in enumerate(kept)}
    left = {split: [number[index] for index in found if index in number] for split, found in splits.items()}
    return replace(cases, records=tuple(cases.records[index] for index in kept)), left
