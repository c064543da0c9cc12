"""Curves over all sites' patients together, by hand on four cases."""

from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.common.metrics.predictions import CasePrediction
from prostafed.server.records.read import RunFolder, read_run
from prostafed.server.report.curves import REFERENCE, tabulate_curves
from prostafed.server.report.plots import draw, plot_curves


def case(name: str, label: bool, score: float) -> CasePrediction:
    return CasePrediction(name, name, label, score)


@pytest.fixture
def folder(run: Path) -> RunFolder:
    """Two sites, csPCa at 0.9 and 0.4, none at 0.6 and 0.1."""
    predictions = {
        (2, "federated", "alpha"): (case("a", True, 0.9), case("b", False, 0.6)),
        (2, "federated", "beta"): (case("c", True, 0.4), case("d", False, 0.1)),
    }
    return replace(read_run(run), predictions=predictions)


def points(folder: RunFolder, panel: str, arm: str = "federated") -> list[tuple[float, float]]:
    return [(row["x"], row["y"]) for row in tabulate_curves(folder) if (row["panel"], row["arm"]) == (panel, arm)]


def test_roc_is_over_the_patients_of_all_sites(folder: RunFolder) -> None:
    assert points(folder, "roc") == [(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)]
    assert points(folder, "roc", REFERENCE) == [(0.0, 0.0), (1.0, 1.0)]


def test_reliability_says_what_share_had_cancer(folder: RunFolder) -> None:
    assert points(folder, "reliability") == [(0.1, 0.0), (0.4, 1.0), (0.6, 0.0), (0.9, 1.0)]


def test_net_benefit_by_hand(folder: RunFolder) -> None:
    # at 0.5: a found, b for nothing: 1/4 - 1/4 x 1
    assert dict(points(folder, "decision"))[0.5] == pytest.approx(0.0)
    # at 0.2: a and c found, b for nothing: 2/4 - 1/4 x 0.25
    assert dict(points(folder, "decision"))[0.2] == pytest.approx(0.4375)


def test_without_predictions_there_are_no_curves(folder: RunFolder) -> None:
    assert tabulate_curves(replace(folder, predictions={})) == []
    one_kind = {(2, "federated", "alpha"): (case("a", True, 0.9),)}
    assert not points(replace(folder, predictions=one_kind), "roc")


def test_each_panel_is_drawn(folder: RunFolder, run: Path) -> None:
    figure = draw(plot_curves, tabulate_curves(read_run(run)))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        *("ROC, csPCa per case", "FROC, lesions", "Reliability", "Decision curve")
    ]
    assert len(draw(plot_curves, tabulate_curves(folder)).axes) == 3
