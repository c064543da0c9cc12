"""The verdict: which arm was best, and whether the difference is shown by these patients or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from prostafed.common.metrics.bootstrap import percentile_interval
from prostafed.common.tasks import build_task
from prostafed.server.records.read import RunFolder
from prostafed.server.report.results import Result
from prostafed.server.report.significance import permute
from prostafed.server.report.vocabulary import arm_of, metric_of

# A percentile bootstrap of fewer cases of a class is too narrow: with 2 it can say 1.00 to 1.00.
MIN_PER_CLASS = 10


@dataclass(frozen=True)
class Difference:
    """One arm minus another, mean over the same sites; shown = its interval leaves out 0."""

    arm: str
    other: str
    value: float
    low: float | None
    high: float | None
    shown: bool
    few: bool  # too few patients for any difference to count as shown
    paired: bool  # resampled on the same patients; else only whether the arms' own intervals overlap is known
    p_value: float | None = None  # of a paired permutation test, where paired


def judged(run: RunFolder, results: Sequence[Result]) -> list[Result]:
    """Return the results the run is judged by: last stage, main metric, mean over sites (or the only site), per arm."""
    for stage in sorted({result.stage for result in results}, reverse=True):
        of_stage = [result for result in results if result.stage == stage and result.value is not None]
        for metric in build_task(of_stage[0].task).metrics if of_stage else ():
            of_metric = [result for result in of_stage if result.metric == metric]
            means = [result for result in of_metric if result.scope == "mean"]
            if means or (of_metric and len({result.site for result in of_metric}) == 1):
                return means or [result for result in of_metric if result.scope == "site"]
    return []


def scarce_sites(results: Sequence[Result], arms: Sequence[Result]) -> dict[str, tuple[int, ...]]:
    """Return (with csPCa, without) of the sites behind `arms` that have too few of either to trust an interval; where
    csPCa is not judged (cases,), if those are too few.
    """
    scarce: dict[str, tuple[int, ...]] = {}
    for result in results:
        if arms and (result.stage, result.metric, result.scope) == (arms[0].stage, arms[0].metric, "site"):
            with_cspca, cases = result.positives, result.cases
            if cases is None:
                continue
            kinds = (cases,) if with_cspca is None else (with_cspca, cases - with_cspca)
            if min(kinds) < MIN_PER_CLASS:
                scarce[result.site] = kinds
    return scarce


def compare(run: RunFolder, first: Result, second: Result, few: bool = False, tested: bool = False) -> Difference:
    """Return `first` minus `second` with the interval of the paired bootstrap, where both saw the same patients, and,
    `tested`, with the p-value of a permutation test.
    """
    assert first.value is not None
    assert second.value is not None
    value = first.value - second.value
    if _same_patients(run, first, second):
        assert first.resamples is not None
        assert second.resamples is not None
        interval = percentile_interval(first.resamples - second.resamples)
        low, high = interval or (None, None)
        shown = low is not None and high is not None and (low > 0 or high < 0) and not few
        p_value = permute(run, first, second) if tested else None
        return Difference(first.arm, second.arm, value, low, high, shown, few, paired=True, p_value=p_value)
    apart = None not in (first.low, first.high, second.low, second.high) and (
        (first.low or 0) > (second.high or 0) or (second.low or 0) > (first.high or 0)
    )
    return Difference(first.arm, second.arm, value, None, None, apart and not few, few, paired=False)


def _same_patients(run: RunFolder, first: Result, second: Result) -> bool:
    if first.resamples is None or second.resamples is None or first.site != second.site:
        return False
    tested = [
        {
            (site, case.case_id)
            for (stage, arm, site), cases in run.predictions.items()
            if (stage, arm) == (result.stage, result.arm)
            for case in cases
        }
        for result in (first, second)
    ]
    return tested[0] == tested[1] and first.resamples.shape == second.resamples.shape


def write_verdict(run: RunFolder, results: Sequence[Result]) -> str:
    """Return the one sentence a reader should take away."""
    arms = judged(run, results)
    if not arms:
        return _nothing_to_judge(run, results)
    metric = metric_of(arms[0].metric)
    best = (max if metric.higher_is_better else min)(arms, key=lambda result: result.value or 0.0)
    where = f"over {best.site.count(',') + 1} sites" if best.scope == "mean" else f"at {best.site}"
    reached = f"{'mean ' if best.scope == 'mean' else ''}{metric.label} {where} of {format_value(best)}"
    images = " on generated images" if all_generated(run) else ""
    name = arm_of(best.arm).label
    if len(arms) == 1:
        spread = "" if _has_interval(best) or best.scope != "mean" else f", {_span(results, best)} per site"
        return f"{name} training{images} reached a {reached}{spread}; no other arm was run beside it."
    few = bool(scarce_sites(results, arms))
    differences = [compare(run, best, other, few) for other in arms if other is not best]
    shown = [_say(difference) for difference in differences if difference.shown]
    unclear = [_say(difference) for difference in differences if not difference.shown]
    clauses = [f"it is better than {_join(shown)}"] if shown else []
    if unclear:
        these = f"these {best.patients} patients" if best.patients else "these patients"
        clauses.append(
            f"that it is better than {_join(unclear)} is not shown by {these}{', who are too few' if few else ''}"
        )
    scored = "highest" if metric.higher_is_better else "lowest"
    return f"{name} training scored {scored}{images}, with a {reached}: {'; '.join(clauses)}."


def all_generated(run: RunFolder) -> bool:
    """Return whether every site's images are generated."""
    sites = (
        frozenset(site.name for site in run.sites) or run.site_names
    )  # the pooled arm's site is none of the federation's
    return bool(sites) and sites <= run.generated_sites


def format_value(result: Result) -> str:
    """Return "0.71 (95 % interval 0.63 to 0.78)"."""
    unit = metric_of(result.metric).unit
    interval = f" (95 % interval {result.low:.2f} to {result.high:.2f})" if _has_interval(result) else ""
    return f"{result.value:.2f}{f' {unit}' if unit else ''}{interval}"


def format_signed(value: float) -> str:
    """Return the value with its sign and two digits; 0.00 has none."""
    rounded = round(value, 2)
    return f"{rounded:+.2f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.00"


def _span(results: Sequence[Result], mean: Result) -> str:
    key = (mean.stage, mean.metric, mean.arm, "site")
    values = [r.value for r in results if (r.stage, r.metric, r.arm, r.scope) == key and r.value is not None]
    return f"{min(values):.2f} to {max(values):.2f}"


def _has_interval(result: Result) -> bool:
    return result.low is not None and result.high is not None


def _say(difference: Difference) -> str:
    interval, bounds = "", [each for each in (difference.low, difference.high) if each is not None]
    if difference.value < 0:  # of a metric of which less is better
        bounds = [-bound for bound in reversed(bounds)]
    if bounds:
        interval = f", interval {' to '.join(format_signed(bound) for bound in bounds)}"
    return f"{arm_of(difference.other).label.lower()} (by {abs(difference.value):.2f}{interval})"


def _join(texts: Sequence[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _nothing_to_judge(run: RunFolder, results: Sequence[Result]) -> str:
    if not any(stage.get("kind") == "finetune" for stage in run.stages):
        return "This run only pretrained an encoder: without a supervised stage there is nothing to score."
    if any(result.withheld for result in results):
        return "This run has no test result: what rests on too few patients stays at the sites."
    if run.record.state == "finished":
        return "This run has no test result: no site had labelled test patients, or too few kinds of them."
    return "This run has no test result yet: arms are compared after the last round."
