"""What each arm reached on the test patients of each site, with intervals; the mean over sites and the worst site."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from prostafed.common.metrics.bootstrap import bootstrap, percentile_interval
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.statistic import FloatArray
from prostafed.common.metrics.summary import WITHHELD, N, statistic_of
from prostafed.common.seeding import derive_seed
from prostafed.common.tasks import build_task
from prostafed.server.records.read import RunFolder
from prostafed.server.report.vocabulary import metric_of, order_arms
from prostafed.server.report.withheld import say_why


@dataclass(frozen=True)
class Result:
    """One number of the table of arms; None where undefined or not known."""

    stage: int
    task: str
    metric: str
    arm: str
    scope: str  # "site", "mean" over sites, or "worst" of the sites
    site: str  # of a mean: the sites it is over, joined by ", "
    value: float | None
    low: float | None = None
    high: float | None = None
    patients: int | None = None
    cases: int | None = None
    positives: int | None = None
    withheld: str = ""  # why a site did not tell it: "fewer than 10 patients"
    resamples: FloatArray | None = None  # of the bootstrap, the same patients in the same order in every arm

    def as_row(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("resamples", "withheld")
        }


def list_sites(run: RunFolder) -> list[str]:
    """Return the sites in the order of the federation, else by name."""
    if run.sites:
        return [site.name for site in run.sites]
    named = {site for line in run.rounds for site in line.participants}
    return sorted(named or {line.site for line in run.metrics if line.arm == "federated"})


def list_arms(run: RunFolder) -> list[str]:
    """Return the arms with records, federated first."""
    return order_arms(
        {line.arm for line in run.rounds} | {line.arm for line in run.metrics} | {arm for _, arm, _ in run.predictions}
    )


def measure(run: RunFolder) -> list[Result]:
    """Return every result on the test split, by stage, metric, arm; sites, then their mean, then the worst."""
    results = []
    for number, stage in enumerate(run.stages, start=1):
        if stage.get("kind") != "finetune":
            continue
        task = str(stage.get("task", ""))
        for metric in build_task(task).metrics:
            found = {arm: _measure_sites(run, number, task, metric, arm) for arm in list_arms(run)}
            tested = {arm: sites for arm, sites in found.items() if sites}
            common = _defined_everywhere(list(tested.values()))
            for sites in tested.values():
                results += [*sites, *_over_sites([site for site in sites if site.site in common])]
    return results


def _measure_sites(run: RunFolder, stage: int, task: str, metric: str, arm: str) -> list[Result]:
    results = []
    for site in list_sites(run):
        predictions = run.predictions.get((stage, arm, site))
        result = (
            _from_predictions(run, (stage, task, metric, arm), site, predictions)
            if predictions
            else _from_metrics(run, (stage, task, metric, arm), site)
        )
        if result is not None:
            results.append(result)
    return results


def _from_predictions(
    run: RunFolder, key: tuple[int, str, str, str], site: str, predictions: Sequence[CasePrediction]
) -> Result:
    stage, task, metric, arm = key
    statistic = statistic_of(metric)
    # The arm is left out of the seed: every arm is resampled alike, so that differences are paired.
    seed = derive_seed(int(run.study.get("seed", 0)), "report", stage, site)
    value = statistic(predictions)
    resamples = bootstrap(predictions, statistic, seed) if value is not None else None
    interval = percentile_interval(resamples) if resamples is not None else None
    low, high = interval or (None, None)
    patients = len({prediction.patient_id for prediction in predictions})
    labels = [prediction.label for prediction in predictions if prediction.label is not None]
    positives = sum(labels) if labels else None
    return Result(
        stage, task, metric, arm, "site", site, value, low, high, patients, len(predictions), positives, "", resamples
    )


def _from_metrics(run: RunFolder, key: tuple[int, str, str, str], site: str) -> Result | None:
    """What a hospital sent: its value and interval, or why it withheld them; not its patients."""
    stage, task, metric, arm = key
    lines = [
        line for line in run.metrics if (line.stage, line.arm, line.site, line.split) == (stage, arm, site, "test")
    ]
    last = max((line.round for line in lines), default=0)
    values = {line.metric: line.value for line in lines if line.round == last}
    if not values:
        return None
    cases = None if f"{WITHHELD}/{N}" in values else max(line.n for line in lines)
    positives = int(values["positives"]) if "positives" in values else None
    low, high = values.get(f"{metric}_low"), values.get(f"{metric}_high")
    value, withheld = values.get(metric), say_why(metric, values)
    return Result(stage, task, metric, arm, "site", site, value, low, high, None, cases, positives, withheld)


def _defined_everywhere(arms: Sequence[Sequence[Result]]) -> set[str]:
    """Return the sites where the metric is defined in every arm: means are over the same sites or not comparable."""
    defined = [{result.site for result in sites if result.value is not None} for sites in arms]
    return set.intersection(*defined) if defined else set()


def _over_sites(sites: Sequence[Result]) -> list[Result]:
    values = [site.value for site in sites if site.value is not None]
    if len(values) < 2:
        return []
    resamples = _mean_resamples(sites)
    low, high = (None if resamples is None else percentile_interval(resamples)) or (None, None)
    mean = replace(
        sites[0],
        scope="mean",
        site=", ".join(site.site for site in sites),
        value=float(np.mean(values)),
        low=low,
        high=high,
        patients=_total([site.patients for site in sites]),
        cases=_total([site.cases for site in sites]),
        positives=_total([site.positives for site in sites]),
        resamples=resamples,
    )
    pick = min if metric_of(mean.metric).higher_is_better else max
    worst = pick(sites, key=lambda site: site.value if site.value is not None else np.nan)
    return [mean, replace(worst, scope="worst")]


def _mean_resamples(sites: Sequence[Result]) -> FloatArray | None:
    """Sites are resampled on their own, so row k of each is one resample stratified by site."""
    rows = [site.resamples for site in sites if site.resamples is not None and site.resamples.size]
    return np.mean(rows, axis=0) if len(rows) == len(sites) else None


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
