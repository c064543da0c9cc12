"""What sites chose to tell of their patients, side by side."""

import json
from pathlib import Path

import pytest

from prostafed.server.report import write_report
from prostafed.server.report.cohorts import list_scanners, mean_shift, tabulate_cohorts

COHORTS = {
    "alpha": {"csPCa/yes": 30.0, "csPCa/no": 70.0, "csPCa/unknown": 0.0, "scanner/ge": 1.0},
    "beta": {"csPCa/yes": 10.0, "csPCa/no": 10.0, "csPCa/unknown": 0.0},
}


def test_values_stand_side_by_side_and_hidden_ones_are_hidden() -> None:
    (table,) = tabulate_cohorts({**COHORTS, "gamma": {"csPCa/no": 40.0}}, ["alpha", "beta", "gamma"])
    assert table.name == "csPCa"
    assert table.lines == [("yes", [30.0, 10.0, None]), ("no", [70.0, 10.0, 40.0]), ("unknown", [0.0, 0.0, None])]


def test_the_distance_is_to_all_others_together() -> None:
    tables = tabulate_cohorts(COHORTS, ["alpha", "beta"])
    assert tables[0].shifts == [pytest.approx(0.2), pytest.approx(0.2)]
    assert mean_shift(tables, 0) == pytest.approx(0.2)
    hidden = tabulate_cohorts({**COHORTS, "gamma": {"csPCa/no": 40.0}}, ["alpha", "beta", "gamma"])
    assert hidden[0].shifts == [None, None, None], "what one hides is hidden in the sum"


def test_sequences_say_nothing_of_how_like_the_patients_are() -> None:
    tables = tabulate_cohorts({site: {"ADC/there": 40.0, "ADC/missing": 0.0} for site in "ab"}, ["a", "b"])
    assert tables[0].shifts == [0.0, 0.0]
    assert mean_shift(tables, 0) is None


def test_scanners_are_named() -> None:
    assert list_scanners(COHORTS) == {"alpha": "GE"}


def test_a_pooled_value_that_could_be_anything_is_not_shown(run: Path) -> None:
    row = {"stage": 2, "metric": "auroc", "value": 0.6543, "low": 0.5, "high": 0.8, "sites": ["alpha"]}
    for lowest, highest, shown in ((0.64, 0.67, True), (0.1, 0.9, False)):
        (run / "all_patients.json").write_text(json.dumps([{**row, "lowest": lowest, "highest": highest}]))
        page = write_report(run).read_text()
        assert ("0.654" in page, "too few patients to tell" in page.split("All patients together")[1]) == (
            shown,
            not shown,
        )


def test_the_page_shows_them_where_they_are(run: Path) -> None:
    assert "Who the patients are" not in write_report(run).read_text()
    (run / "cohorts.json").write_text(json.dumps(COHORTS))
    page = write_report(run).read_text()
    assert "Who the patients are" in page
    assert "alpha GE" in page
