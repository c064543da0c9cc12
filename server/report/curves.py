"""Curves over all sites' test patients together, per arm: ROC, FROC, reliability, decision. Simulations only: in a real
federation predictions stay at the sites.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from prostafed.common.metrics.calibration import reliability_table
from prostafed.common.metrics.decision import decision_curve
from prostafed.common.metrics.detection import froc_curve
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.server.records.read import RunFolder
from prostafed.server.report.tables import Row
from prostafed.server.report.vocabulary import order_arms

REFERENCE = "reference"  # arm of a line that is no arm's: chance, treat all
MOST_FALSE_POSITIVES = 5.0  # per case, where FROC is cut off
PANELS = {  # panel -> title, x label, y label
    "roc": ("ROC, csPCa per case", "1 - specificity", "sensitivity"),
    "froc": ("FROC, lesions", "false positives per case", "lesion sensitivity"),
    "reliability": ("Reliability", "predicted probability", "observed share with csPCa"),
    "decision": ("Decision curve", "probability at which one would act", "net benefit"),
}


def tabulate_curves(run: RunFolder) -> list[Row]:
    """Return points (panel, arm, x, y, cases) of the last supervised stage; none without predictions."""
    last = max((stage for stage, _, _ in run.predictions), default=0)
    rows: list[Row] = []
    for arm in order_arms({arm for stage, arm, _ in run.predictions if stage == last}):
        cases = [
            case
            for (stage, each, _), found in sorted(run.predictions.items())
            if (stage, each) == (last, arm)
            for case in found
        ]
        points = [*_roc(cases), *_froc(cases), *_reliability(cases), *_decision(cases)]
        rows += [{"panel": panel, "arm": arm, "x": x, "y": y, "cases": count} for panel, x, y, count in points]
    return rows + _references(rows)


def _judged(cases: Sequence[CasePrediction]) -> tuple[np.ndarray, np.ndarray]:
    known = [(case.label, case.score) for case in cases if case.label is not None and case.score is not None]
    return np.array([label for label, _ in known], bool), np.array([score for _, score in known], float)


def _roc(cases: Sequence[CasePrediction]) -> Iterator[tuple[str, float, float, int]]:
    labels, scores = _judged(cases)
    if not labels.any() or labels.all():
        return
    for threshold in [np.inf, *np.unique(scores)[::-1]]:
        called = scores >= threshold
        yield "roc", float(called[~labels].mean()), float(called[labels].mean()), len(labels)


def _froc(cases: Sequence[CasePrediction]) -> Iterator[tuple[str, float, float, int]]:
    curve = froc_curve(cases)
    if curve is None:
        return
    for per_case, sensitivity in zip(curve.false_positives_per_case, curve.sensitivity, strict=True):
        if per_case <= MOST_FALSE_POSITIVES:
            yield "froc", float(per_case), float(sensitivity), len(cases)


def _reliability(cases: Sequence[CasePrediction]) -> Iterator[tuple[str, float, float, int]]:
    labels, scores = _judged(cases)
    if len(labels):
        for row in reliability_table(labels.astype(float), scores):
            if row.cases:
                yield "reliability", row.predicted, row.observed, row.cases


def _decision(cases: Sequence[CasePrediction]) -> Iterator[tuple[str, float, float, int]]:
    labels, scores = _judged(cases)
    curve = decision_curve(labels, scores) if len(labels) else None
    if curve is not None:
        for threshold, benefit in zip(curve.thresholds, curve.model, strict=True):
            yield "decision", float(threshold), float(benefit), len(labels)


def _references(rows: Sequence[Row]) -> list[Row]:
    """Return chance, perfect calibration and treating nobody, for the panels there are."""
    lines = {"roc": ((0, 0), (1, 1)), "reliability": ((0, 0), (1, 1)), "decision": ((0, 0), (0.5, 0))}
    shown = {row["panel"] for row in rows}
    return [
        {"panel": panel, "arm": REFERENCE, "x": x, "y": y, "cases": 0}
        for panel, points in lines.items()
        if panel in shown
        for x, y in points
    ]
