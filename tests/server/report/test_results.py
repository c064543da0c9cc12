import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prostafed.common.metrics.diagnosis import AUROC
from prostafed.server.records.read import read_run
from prostafed.server.report import summary_table
from prostafed.server.report.results import Result, list_arms, list_sites, measure


def pick(results: list[Result], **wanted: object) -> list[Result]:
    return [result for result in results if all(getattr(result, name) == value for name, value in wanted.items())]


def test_every_arm_site_and_metric_has_a_row(run: Path) -> None:
    results = measure(read_run(run))
    assert {(result.metric, result.arm, result.scope) for result in results} == {
        (metric, arm, scope)
        for metric in ("picai_score", "auroc", "lesion_ap", "lesion_sensitivity")
        for arm in ("federated", "local", "pooled")
        for scope in ("site", "mean", "worst")
    }
    assert [result.site for result in pick(results, metric="auroc", arm="local", scope="site")] == [
        "alpha",
        "beta",
        "gamma",
    ]


def test_a_site_s_value_is_that_of_its_predictions(run: Path) -> None:
    folder = read_run(run)
    (result,) = pick(measure(folder), metric="auroc", arm="local", scope="site", site="beta")
    predictions = folder.predictions[2, "local", "beta"]
    assert result.value == AUROC(predictions)
    assert result.low is not None
    assert result.high is not None
    assert result.value is not None
    assert result.low < result.value < result.high
    assert (result.patients, result.cases, result.positives) == (36, 36, 12)


def test_mean_and_worst_are_over_the_sites(run: Path) -> None:
    results = pick(measure(read_run(run)), metric="auroc", arm="local")
    values = {result.site: result.value or 0 for result in results if result.scope == "site"}
    (mean,), (worst,) = pick(results, scope="mean"), pick(results, scope="worst")
    assert mean.value == pytest.approx(sum(values.values()) / 3)
    assert mean.patients == 108
    assert (worst.site, worst.value) == (min(values, key=lambda site: values[site]), min(values.values()))


def test_the_worst_brier_score_is_the_highest(make_run: Callable[..., Path]) -> None:
    run = make_run(stages=[{"kind": "finetune", "task": "classify", "rounds": 2}])
    results = pick(measure(read_run(run)), metric="brier", arm="federated")
    (worst,) = pick(results, scope="worst")
    assert worst.value == max(result.value or 0 for result in pick(results, scope="site"))


def test_the_mean_is_narrower_than_its_sites(run: Path) -> None:
    results = pick(measure(read_run(run)), metric="auroc", arm="local")
    widths = {result.scope: (result.high or 0) - (result.low or 0) for result in results if result.scope != "worst"}
    assert widths["mean"] < min((r.high or 0) - (r.low or 0) for r in pick(results, scope="site"))


def test_what_the_sites_sent_stands_in_for_predictions(run: Path) -> None:
    before = pick(measure(read_run(run)), metric="auroc", arm="federated", scope="site")
    (run / "predictions.jsonl").unlink()
    with (run / "metrics.csv").open("a") as file:
        file.write("federated,2,1,alpha,test,auroc,0.01,36\n")  # an earlier round, written by a run that was resumed
    after = measure(read_run(run))
    sent = pick(after, metric="auroc", arm="federated", scope="site")
    assert [result.value for result in sent] == pytest.approx([result.value for result in before])
    assert all(result.low is not None for result in sent)
    assert all((result.patients, result.cases, result.positives) == (None, 36, 12) for result in sent)
    (mean,) = pick(after, metric="auroc", arm="federated", scope="mean")
    assert (mean.low, mean.high, mean.patients) == (None, None, None)


def test_a_mean_is_over_the_sites_where_every_arm_is_defined(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    kept = [line for line in lines if (line["arm"], line["site"]) != ("local", "beta") or not line["label"]]
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    results = pick(measure(read_run(run)), metric="auroc")
    assert {result.site for result in results if result.scope == "mean"} == {"alpha, gamma"}
    (undefined,) = pick(results, arm="local", scope="site", site="beta")
    assert undefined.value is None


def test_one_site_has_no_mean(make_run: Callable[..., Path]) -> None:
    results = measure(read_run(make_run(sites=("alpha",), arms=("federated",))))
    assert {result.scope for result in results} == {"site"}


def test_pretraining_alone_has_no_results(make_run: Callable[..., Path]) -> None:
    run = make_run(stages=[{"kind": "pretrain", "method": "restore", "rounds": 2}])
    assert measure(read_run(run)) == []


def test_sites_and_arms_come_in_their_order(run: Path) -> None:
    assert list_arms(read_run(run)) == ["federated", "local", "pooled"]
    (run / "federation.json").unlink()
    assert list_sites(read_run(run)) == ["alpha", "beta", "gamma", "pooled"]


def test_the_summary_table_is_plain_json_and_repeats(run: Path) -> None:
    rows = summary_table(run)
    assert rows == json.loads(json.dumps(rows, allow_nan=False))
    assert rows == summary_table(run)
    assert list(rows[0]) == [
        *("stage", "task", "metric", "arm", "scope", "site", "value", "low", "high", "patients", "cases", "positives")
    ]


def test_a_task_of_structures_is_shown_by_its_measures_and_says_nothing_of_cancer(
    make_run: Callable[..., Path],
) -> None:
    run = make_run(stages=[{"kind": "finetune", "task": "anatomy", "rounds": 2}])
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        measures = {"gland_dice": 0.7 + number % 3 / 10, "gland_hd95_mm": 4.0 + number % 2}
        line |= {"label": None, "score": None, "measures": measures}
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = measure(read_run(run))
    shown = {result.metric for result in results if result.value is not None}
    assert shown == {"gland_dice", "gland_hd95_mm"}
    (mean,) = pick(results, metric="gland_dice", arm="federated", scope="mean")
    assert mean.value == pytest.approx(0.8)
    assert mean.positives is None
    (worst,) = pick(results, metric="gland_hd95_mm", arm="federated", scope="worst")
    assert worst.value == max(r.value for r in pick(results, metric="gland_hd95_mm", arm="federated", scope="site"))
    assert summary_table(run)
