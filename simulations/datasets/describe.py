"""Text for `prostafed-sim datasets`."""

from pathlib import Path

from prostafed.simulations.datasets import DatasetEntry
from prostafed.simulations.datasets.survey import Survey

MOST_SHOWN = 20  # missing parts


def describe_entry(name: str, entry: DatasetEntry) -> str:
    """Return what there is to know of a set before one has it."""
    lines = {
        "sites": ", ".join(entry.sites) or "not told apart",
        "size": entry.size,
        "sequences": ", ".join(entry.sequences),
        "labels": entry.labels,
        "licence": entry.licence,
        "get it": entry.origin,
    }
    tree = "\n".join(f"    {line}" for line in entry.tree.splitlines())
    facts = "\n".join(f"  {key + ':':<11}{value}" for key, value in lines.items())
    return f"{name}: {entry.title}\n{facts}\n  expected below its root:\n{tree}"


def describe_survey(entry: DatasetEntry, root: Path, survey: Survey) -> str:
    """Return what a folder holds of a set, or what it lacks."""
    if survey.missing:
        more = len(survey.missing) - MOST_SHOWN
        shown = [*survey.missing[:MOST_SHOWN], *([f"... and {more} more (all with --json)."] if more > 0 else [])]
        listed = "\n".join(f"  {line}" for line in shown)
        return f"{entry.title} in {root}: missing or wrong: {len(survey.missing)}.\n{listed}\nGet it: {entry.origin}"
    rows = "\n".join(
        f"  {center}: {counts['patients']} patients, {counts['studies']} studies, {counts['with_masks']} with masks"
        for center, counts in survey.counts.items()
    )
    return f"{entry.title} in {root}: nothing missing. Published are {entry.size}; found are\n{rows}"
