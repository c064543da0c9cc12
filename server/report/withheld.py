"""What sites withheld because it rests on few patients, in words: an empty cell says why it is empty."""

from collections.abc import Mapping

from prostafed.common.metrics.summary import LESIONS, LOSS, POSITIVES, WITHHELD, groups_of
from prostafed.server.records.read import RunFolder

KINDS = {POSITIVES: " with, without or of unknown csPCa", LESIONS: " with or without a lesion"}
SPLITS = {"train": "training", "validation": "validation patients", "test": "test patients"}


def say_why(metric: str, values: Mapping[str, float]) -> str:
    """Return "fewer than 10 patients" where a site's `values`, by name, say that they withhold `metric`; else ""."""
    groups = [group for group in groups_of(metric) if f"{WITHHELD}/{group}" in values]
    return _say_few(groups[0], values[f"{WITHHELD}/{groups[0]}"]) if groups else ""


def list_withheld(run: RunFolder) -> dict[str, list[str]]:
    """Return, by site, what the federation's sites withheld and why: "test patients: fewer than 10 with or ..."."""
    said: dict[str, set[str]] = {}
    for line in run.metrics:
        mark, _, group = line.metric.partition("/")
        if mark == WITHHELD and line.arm == "federated":
            of = "training loss" if group == LOSS else SPLITS.get(line.split, line.split)
            said.setdefault(line.site, set()).add(f"{of}: {_say_few(group, line.value)}")
    return {site: sorted(texts) for site, texts in sorted(said.items())}


def _say_few(group: str, minimum: float) -> str:
    return f"fewer than {minimum:.0f} patients{KINDS.get(group, '')}"
