"""The TASKS table: every supervised task by name. Nothing here loads torch; `build_task` does, when asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from prostafed.common.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from prostafed.common.metrics.measure import Measure
    from prostafed.common.tasks.task import Task


@dataclass(frozen=True)
class TaskEntry:
    """One line of the table: the module, by its full name, whose `build()` returns the Task, and what a radiologist
    must annotate for it.
    """

    module: str
    annotation: str


TASKS: dict[str, TaskEntry] = {
    "anatomy": TaskEntry("prostafed.common.tasks.anatomy", "gland or zone contours"),
    "classify": TaskEntry("prostafed.common.tasks.classify", "csPCa yes/no per case"),
    "lesion": TaskEntry("prostafed.common.tasks.lesion", "lesion contours"),
    "pirads": TaskEntry("prostafed.common.tasks.pirads", "PI-RADS scores of reports, one per reader"),
}


def build_task(name: str) -> Task:
    """Return the Task that TASKS lists under `name`; raises ConfigurationError, one sentence, where it lists none, or
    one that lacks a fact or says an impossible one.
    """
    if name not in TASKS:
        raise ConfigurationError(f"Expected a task of this release, found '{name}'{nearest(name, TASKS)}")
    entry = TASKS[name]
    try:
        task = cast("Task", import_module(entry.module).build())
        task.check()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The task '{name}' cannot be used: {error}. Correct {entry.module}, or its line in TASKS."
        ) from error
    return task


def list_measures(names: Iterable[str]) -> dict[str, Measure]:
    """Return the measures that the tasks of these `names` bring along, by name; raises ConfigurationError where two
    tasks call different ones alike.
    """
    found: dict[str, Measure] = {}
    for task in names:
        for name, measure in build_task(task).measures.items():
            if found.setdefault(name, measure) != measure:
                raise ConfigurationError(f"The task '{task}' calls a measure '{name}', as another does. Rename it.")
    return found
