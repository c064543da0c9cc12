"""What lies below a folder that should hold a public set: studies per centre, or what is missing; in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prostafed.common.errors import DataError
from prostafed.simulations.datasets import load_dataset
from prostafed.simulations.datasets.dataset import Dataset, list_studies
from prostafed.simulations.datasets.study import StudyFiles

UNKNOWN_CENTER = "not told"
MOST_SHOWN = 20  # missing parts


@dataclass(frozen=True)
class Survey:
    """`missing` has a line per part that is missing or wrong; counts are by centre: patients, studies, labelled."""

    missing: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]


def survey_folder(name: str, root: Path) -> Survey:
    """Return what is below `root` of the set `name`: its tables are read, its images looked for but not opened."""
    if not root.is_dir():
        return Survey((f"{root}: expected a folder, found none. Check the path.",), {})
    try:
        studies = list_studies(load_dataset(name), root)
    except DataError as error:
        return Survey(tuple(str(error).splitlines()), {})
    paths = dict.fromkeys(path for study in studies for path in study.images.values())
    missing = [f"{path.relative_to(root)}: missing." for path in paths if not path.exists()]
    missing += [study.lacks for study in studies if study.lacks]
    return Survey(tuple(missing), _count(studies))


def _count(studies: tuple[StudyFiles, ...]) -> dict[str, dict[str, int]]:
    counts = {}
    for center in sorted({study.record.center for study in studies}):
        own = [study for study in studies if study.record.center == center]
        counts[center or UNKNOWN_CENTER] = {
            "patients": len({study.record.patient_id for study in own}),
            "studies": len(own),
            "with_masks": sum(bool(study.masks) for study in own),
        }
    return counts


def describe_dataset(dataset: Dataset) -> str:
    """Return what there is to know of a set before one has it."""
    lines = {
        "centres": ", ".join(dataset.centers) or "not told apart",
        "size": dataset.size,
        "sequences": ", ".join(dataset.sequences),
        "labels": dataset.labels,
        "licence": dataset.licence,
        "get it": dataset.origin,
    }
    tree = "\n".join(f"    {line}" for line in dataset.tree.splitlines())
    facts = "\n".join(f"  {key + ':':<11}{value}" for key, value in lines.items())
    return f"{dataset.name}: {dataset.title}\n{facts}\n  expected below its root:\n{tree}"


def describe_survey(dataset: Dataset, root: Path, survey: Survey) -> str:
    """Return what a folder holds of a set, or what it lacks."""
    if survey.missing:
        more = len(survey.missing) - MOST_SHOWN
        shown = [*survey.missing[:MOST_SHOWN], *([f"... and {more} more (all with --json)."] if more > 0 else [])]
        listed = "\n".join(f"  {line}" for line in shown)
        return (
            f"{dataset.title} in {root}: missing or wrong: {len(survey.missing)}.\n{listed}\nGet it: {dataset.origin}"
        )
    rows = "\n".join(
        f"  {center}: {counts['patients']} patients, {counts['studies']} studies, {counts['with_masks']} with masks"
        for center, counts in survey.counts.items()
    )
    return f"{dataset.title} in {root}: nothing missing. Published are {dataset.size}; found are\n{rows}"
