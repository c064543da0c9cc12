"""What a run ended without, said in the report's first lines and as the command's last word."""

from collections.abc import Iterator
from dataclasses import dataclass

from prostafed.server.records.lines import RoundLine
from prostafed.server.records.read import RunFolder, list_missing
from prostafed.server.report.vocabulary import arm_of


@dataclass(frozen=True)
class Notice:
    """A boxed sentence above the report."""

    kind: str  # "generated", "unfinished" or "note"
    title: str
    text: str


def list_shortcomings(run: RunFolder) -> list[Notice]:
    """Return what a reader must know of a run that came to its end all the same: losses that diverged, sites that are
    missing from a stage's last evaluation, a start from a model that may have seen test patients.
    """
    return [*_other_split(run), *_diverged(run), *_missing(run)]


def _other_split(run: RunFolder) -> Iterator[Notice]:
    if run.study.get("initial", {}).get("allow_other_split"):
        text = (
            "This run started from a checkpoint whose own study split the patients in another way, or does not say how "
            "(allow_other_split): test patients may have been trained on, and every result may be too good."
        )
        yield Notice("unfinished", "Test patients may have been trained on", text)


def _diverged(run: RunFolder) -> Iterator[Notice]:
    last: dict[tuple[str, int, str], RoundLine] = {
        (line.arm, line.stage, site): line
        for line in run.rounds
        for site, told in line.metrics.items()
        if "loss" in told
    }
    said = [
        f"{site} in stage {stage}{_of_arm(arm)}, {line.metrics[site]['loss']:.3g} in round {line.round}"
        for (arm, stage, site), line in last.items()
        if site in line.diverged
    ]
    if said:
        text = f"Far above where it began, or not finite, at {'; '.join(said)}. What was learnt there is of no use."
        yield Notice("unfinished", "The training loss diverged", f"{text} Lower learning_rate and run again.")


def _missing(run: RunFolder) -> Iterator[Notice]:
    missing = list_missing(line for line in run.evaluations if line.last)
    for (arm, stage, site), entry in sorted(missing.items()):
        text = f"No answer to the last evaluation of stage {stage}{_of_arm(arm)}: {entry.get('text', '')}."
        yield Notice(
            "unfinished",
            f"{site} is missing: {entry.get('code', '')}",
            f"{text} No result counts its test patients. Resume the run to ask again.",
        )


def _of_arm(arm: str) -> str:
    return "" if arm == "federated" else f" ({arm_of(arm).label.lower()})"
