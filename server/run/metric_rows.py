"""Metrics as sites send them, "split/metric" by name -> rows of metrics.csv."""

from collections.abc import Iterable, Mapping

from prostafed.server.records.lines import EvaluationLine, MetricLine
from prostafed.server.run.all_patients import KEYS


def metric_rows(stage: int, number: int, site: str, metrics: Mapping[str, float], cases: int = 0) -> list[MetricLine]:
    """Return one row per metric of a site's reply; `cases` is the number they are over where a split names none."""
    rows = []
    for name, value in sorted(metrics.items()):
        split, _, metric = name.partition("/")
        if metric in KEYS:  # of no use by themselves: see all_patients.json
            continue
        count = int(metrics.get(f"{split}/n", cases))
        rows.append(MetricLine(stage=stage, round=number, site=site, split=split, metric=metric, value=value, n=count))
    return rows


def rows_of_evaluations(lines: Iterable[EvaluationLine]) -> list[MetricLine]:
    """Return the rows of lines of evaluations.jsonl: by stage, round and site, however often each was asked."""
    found = {(line.stage, line.round, site): metrics for line in lines for site, metrics in line.metrics.items()}
    return [row for key in sorted(found) for row in metric_rows(*key, found[key])]


def of_split(metrics: Mapping[str, float], split: str) -> dict[str, float]:
    """Return the metrics of a split, without its prefix."""
    return {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{split}/")}
