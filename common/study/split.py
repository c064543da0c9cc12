"""How a study splits patients: drawn from its split seed, the same whatever else the study says, and told in every
checkpoint, so that nobody is tested on patients a model was trained on.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from prostafed.common.errors import CheckpointError
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.imaging.folds import Splits, assign_cases, draw_sides
from prostafed.common.study import Finetune, Study
from prostafed.common.tasks import TASKS, build_task

_SAME = ("split_seed", "validation_fraction", "test_fraction", "sequences", "allow_missing")  # of [data]; the last two
# say which cases are admitted, and so who is split


def split_patients(study: Study, records: Sequence[CaseRecord], known: Mapping[str, str] | None = None) -> Splits:
    """Return the split of a site's admitted cases: indices by split. The only place a study is asked how.

    Patients among the `known` stay on their side, whoever has come since or is labelled now.
    """
    return assign_cases(records, draw_patients(study, records) | dict(known or {}), _uses(records), list_judging(study))


def draw_patients(study: Study, records: Sequence[CaseRecord]) -> dict[str, str]:
    """Return the side each patient of a site's admitted cases is drawn to."""
    data = study.data
    return draw_sides(records, data.split_seed, data.validation_fraction, data.test_fraction, _uses(records))


def name_split(study: Study) -> str:
    """Return what decides on which side a patient is drawn, as JSON: equal for studies that split alike."""
    return json.dumps(study.data.model_dump(mode="json", include=set(_SAME)), sort_keys=True)


def _uses(records: Sequence[CaseRecord]) -> list[frozenset[str]]:
    built = {name: build_task(name) for name in TASKS}
    return [frozenset(name for name, task in built.items() if task.usable(record)) for record in records]


def list_judging(study: Study) -> frozenset[str]:
    """Return the tasks a study judges patients by: those of its supervised stages; where there is none any task, since
    what it pretrains may be fine-tuned for any.
    """
    return frozenset(stage.task for stage in study.stage if isinstance(stage, Finetune)) or frozenset(TASKS)


def describe_split(study: Study) -> str:
    """Return what a checkpoint says of the patients its model was not trained on, as JSON; "" where that is not known,
    since it started from a model with another split.
    """
    if study.initial.allow_other_split:
        return ""
    drawn = study.data.model_dump(mode="json", include=set(_SAME))
    return json.dumps({**drawn, "tasks": sorted(list_judging(study))}, sort_keys=True)


def check_split(study: Study, metadata: Mapping[str, str], path: Path) -> None:
    """Raise CheckpointError where the model of `path`, whose metadata these are, may have been trained on patients that
    `study` tests on, unless the study allows that.
    """
    if study.initial.allow_other_split:
        return
    found = json.loads(metadata.get("split") or "{}")
    wanted = study.data.model_dump(mode="json", include=set(_SAME))
    differing = [name for name in _SAME if found.get(name) != wanted[name]]
    if not found:
        reason = "does not say which patients it was not trained on"
    elif differing:
        said = [f"{name} {json.dumps(found.get(name))} instead of {json.dumps(wanted[name])}" for name in differing]
        reason = f"was trained with another split of the patients ({', '.join(said)})"
    elif more := sorted(list_judging(study) - set(found.get("tasks", ()))):
        reason = f"was trained on patients held out for {', '.join(more)} here, which its own study did not judge"
    else:
        return
    raise CheckpointError(
        f"{path} {reason}, so this study may test on patients it has seen. Start from a model with the same split, or "
        "set allow_other_split = true in [initial]; the report will say so."
    )
