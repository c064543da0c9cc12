"""The TASKS table: every supervised task by name. Nothing here loads torch; `build_task` does, when asked."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from prostafed.common.tasks.task import Task


@dataclass(frozen=True)
class TaskEntry:
    """One line of the table: the module whose `build()` returns the Task, and what a radiologist must
    annotate for it.
    """

    module: str
    annotation: str


TASKS: dict[str, TaskEntry] = {
    "anatomy": TaskEntry("anatomy", "gland or zone contours"),
    "classify": TaskEntry("classify", "csPCa yes/no per case"),
    "lesion": TaskEntry("lesion", "lesion contours"),
    "pirads": TaskEntry("pirads", "PI-RADS scores of reports, one per reader"),
}


def build_task(name: str) -> Task:
    """Return the Task that TASKS lists under `name`."""
    return cast("Task", import_module(f"prostafed.common.tasks.{TASKS[name].module}").build())
