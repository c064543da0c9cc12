"""Names, units, colours: one word and one colour for one thing, wherever it is shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prostafed.common.metrics.measure import Measure
from prostafed.common.tasks import TASKS, list_measures


@dataclass(frozen=True)
class Arm:
    """How an arm is shown; colours are those of Okabe & Ito (2008), told apart by the colour-blind."""

    label: str
    meaning: str
    colour: str
    marker: str
    dash: str
    runs: str = "one"  # federations run for it: "one", "per site", or "none" where it is made of other arms' models

    @property
    def line(self) -> dict[str, Any]:
        """Return how its line is drawn, for matplotlib."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dash}


ARMS: dict[str, Arm] = {
    "federated": Arm("Federated", "sites learn together; images stay at each site", "#0072B2", "o", "-"),
    "local": Arm("Local only", "each site learns from its own cases", "#D55E00", "s", "--", "per site"),
    "pooled": Arm("Pooled", "all cases in one place, which hospitals cannot do; a reference", "#009E73", "^", "-."),
    "ensemble": Arm("Ensemble", "the mean of what all local models say, exchanged once", "#E69F00", "P", "--", "none"),
    "personal": Arm("Personal", "a model of its own per site, held to the federated one", "#7F3C8D", "D", "-"),
    "unseen": Arm(
        "Unseen hospital", "a federation without the hospital it is tested at", "#4D4D4D", "X", ":", "per site"
    ),
}

METRICS: dict[str, Measure] = {  # beside those of tasks
    "picai_score": Measure("PI-CAI score", "mean of AUROC and lesion average precision, 0 to 1"),
    "auroc": Measure(
        "AUROC", "how often a patient with csPCa is ranked above one without; 0.5 is chance, 1 is perfect"
    ),
    "lesion_ap": Measure("Lesion average precision", "area under precision against recall over lesions, 0 to 1"),
    "lesion_sensitivity": Measure("Lesion sensitivity", "share of lesions found at 1 false positive per case, 0 to 1"),
    "average_precision": Measure("Average precision", "area under precision against recall over cases, 0 to 1"),
    "lesion_sensitivity_at_0_1_fp": Measure(
        "Lesion sensitivity at 0.1 FP", "share of lesions found at 0.1 false positives per case, 0 to 1"
    ),
    "lesion_sensitivity_at_0_5_fp": Measure(
        "Lesion sensitivity at 0.5 FP", "share of lesions found at 0.5 false positives per case, 0 to 1"
    ),
    "lesion_sensitivity_at_2_fp": Measure(
        "Lesion sensitivity at 2 FP", "share of lesions found at 2 false positives per case, 0 to 1"
    ),
    "calibration_error": Measure(
        "Calibration error", "mean distance of predicted probability and share with csPCa, 0 is perfect", False
    ),
    "brier": Measure("Brier score", "squared error of the predicted probability, 0 is perfect", higher_is_better=False),
}

VENDORS = {"siemens": "Siemens", "ge": "GE", "philips": "Philips", "uih": "United Imaging"}

UNITS = {"_s_per_mm2": "s/mm²", "_mm": "mm", "_t": "T"}

# Told apart from the arms' colours, so that a line is never taken for an arm.
SITE_COLOURS = ("#332288", "#CC79A7", "#56B4E9", "#999933", "#882255", "#44AA99", "#DDCC77", "#555555")


def arm_of(name: str) -> Arm:
    """Return how an arm is shown; one that is not in ARMS by its own name, in grey."""
    return ARMS.get(name) or Arm(name, "", "#777777", "D", ":")


def metric_of(name: str) -> Measure:
    """Return how a metric is shown; one that neither METRICS nor a task has by its own name."""
    return METRICS.get(name) or list_measures(TASKS).get(name) or Measure(name, "")


def order_arms(names: Iterable[str]) -> list[str]:
    """Return the arms, federated first."""
    known = list(ARMS)
    return sorted(set(names), key=lambda name: (known.index(name) if name in known else len(known), name))


def colour_sites(names: Sequence[str]) -> dict[str, str]:
    """Return a colour per site, by its place in the federation; repeats after eight."""
    return {name: SITE_COLOURS[index % len(SITE_COLOURS)] for index, name in enumerate(names)}


def describe_scanner(settings: dict[str, Any]) -> str:
    """Return "Siemens, 3 T, noise 1.2": what was set, with units; a dash where nothing was."""
    said = []
    for name, value in sorted(settings.items(), key=lambda item: item[0] != "vendor"):
        if value is None:
            continue
        unit = next((end for end in UNITS if name.endswith(end)), "")
        text = ", ".join(f"{each:g}" for each in value) if isinstance(value, list | tuple) else _plain(value)
        amount = f"{text} {UNITS[unit]}" if unit else VENDORS.get(text, text)
        word = name.removesuffix(unit).replace("_", " ")
        said.append(amount if name in ("vendor", "field_strength_t") else f"{word} {amount}")
    return ", ".join(said) or "\N{EN DASH}"


def describe_readers(settings: dict[str, Any]) -> str:
    """Return "3 simulated, kappa 0.6"; a dash where nobody is simulated."""
    if "count" not in settings:
        return "\N{EN DASH}"
    agreement = f", kappa {_plain(settings['kappa'])}" if settings.get("kappa") is not None else ""
    return f"{settings['count']} simulated{agreement}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
