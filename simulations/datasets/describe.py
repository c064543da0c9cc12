"""Text for `prostafed-sim datasets`."""

from pathlib import Path

from prostafed.simulations.datasets.dataset import Dataset
from prostafed.simulations.datasets.survey import Survey

MOST_SHOWN = 20  # missing parts


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
