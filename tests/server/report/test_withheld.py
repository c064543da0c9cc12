"""What sites withhold is said beside their results, and why."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from prostafed.common.exchange.released import find_range
from prostafed.common.metrics.summary import GROUPS_OF, STATISTICS, groups_of
from prostafed.common.tasks import TASKS, list_measures
from prostafed.server.records.read import read_run
from prostafed.server.report.page import write_page
from prostafed.server.report.results import measure
from prostafed.server.report.verdict import write_verdict
from prostafed.server.report.withheld import list_withheld, say_why

FEW = "fewer than 10 patients"


@pytest.fixture
def withholding(run: Path) -> Callable[[Mapping[str, str]], Path]:
    """Return a maker of real federations' runs, in which sites withhold a group of test patients each."""

    def make(groups: Mapping[str, str]) -> Path:
        for name in ("predictions.jsonl", "federation.json"):
            (run / name).unlink()
        with (run / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["arm"] == "federated"]
        kept = [row for row in rows if row["split"] != "test" or row["site"] not in groups]
        for row in rows:
            if row["split"] == "test" and row["metric"] == "n" and row["site"] in groups:
                group = groups[row["site"]]
                kept.append({**row, "metric": f"withheld/{group}", "value": "10.0", "n": "0"})
                kept += [row] if group != "n" else []
        with (run / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(kept)
        return run

    return make


def test_an_empty_cell_says_why(withholding: Callable[[Mapping[str, str]], Path]) -> None:
    run = withholding({"alpha": "n", "beta": "positives"})
    found = {(each.site, each.metric): each for each in measure(read_run(run)) if each.scope == "site"}
    stage_metrics = {metric for _, metric in found}
    for metric in stage_metrics:
        few = found["alpha", metric]
        assert (few.value, few.withheld, few.cases) == (None, FEW, None)
        assert found["gamma", metric].value is not None
        assert not found["gamma", metric].withheld
    assert found["beta", "auroc"].withheld == f"{FEW} with, without or of unknown csPCa"
    assert found["beta", "auroc"].cases, "how many there are is told"
    page = write_page(run).read_text()
    assert f"withheld: {FEW}</span>" in page
    assert f"alpha (test patients: {FEW})" in page
    assert f"beta (test patients: {FEW} with, without or of unknown csPCa)" in page


def test_where_every_site_withholds_the_page_says_so(withholding: Callable[[Mapping[str, str]], Path]) -> None:
    run = withholding(dict.fromkeys(("alpha", "beta", "gamma"), "n"))
    record = read_run(run)
    assert "too few patients stays at the sites" in write_verdict(record, measure(record))
    page = write_page(run).read_text()
    assert page.count(f"withheld: {FEW}</span>") >= 3
    assert "no site had labelled test patients" not in page


def test_nothing_is_said_where_nothing_is_withheld(run: Path) -> None:
    assert list_withheld(read_run(run)) == {}
    assert "Withheld</" not in write_page(run).read_text()


def test_every_group_has_a_reason_and_every_statistic_groups() -> None:
    assert set(GROUPS_OF) == {*STATISTICS, "loss"}
    for name in (*STATISTICS, *list_measures(TASKS), "loss"):
        assert groups_of(name)
        assert all(find_range(f"test/withheld/{group}") for group in groups_of(name))
    assert say_why("gland_dice", {"withheld/gland_dice": 5.0}) == "fewer than 5 patients"
    assert say_why("picai_score", {"withheld/lesions": 10.0}) == f"{FEW} with or without a lesion"
    assert say_why("brier", {"withheld/lesions": 10.0, "brier": 0.1}) == ""
    assert say_why("loss", {"withheld/loss": 10.0}) == FEW
