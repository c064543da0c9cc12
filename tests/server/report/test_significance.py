"""Chance or not: p-values of arms that are the same, and of arms that are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.server.records.read import RunFolder, read_run
from prostafed.server.report.results import Result, measure
from prostafed.server.report.significance import permute
from prostafed.server.report.verdict import judged


def results_of(run: RunFolder) -> dict[str, Result]:
    return {result.arm: result for result in judged(run, measure(run))}


def test_an_arm_does_not_differ_from_itself(run: Path) -> None:
    folder = read_run(run)
    copied = {
        (stage, "local", site): cases for (stage, arm, site), cases in folder.predictions.items() if arm == "federated"
    }
    same = replace(folder, predictions={**folder.predictions, **copied})
    arms = results_of(same)
    assert permute(same, arms["federated"], arms["local"]) == 1.0


def test_an_arm_that_knows_the_truth_differs_from_one_that_has_it_backwards(run: Path) -> None:
    folder = read_run(run)
    wise = {
        key: tuple(replace(case, score=0.9 if case.label else 0.1) for case in cases)
        for key, cases in folder.predictions.items()
        if key[1] == "federated"
    }
    foolish = {
        (stage, "local", site): tuple(replace(case, score=0.1 if case.label else 0.9) for case in cases)
        for (stage, _, site), cases in wise.items()
    }
    apart = replace(folder, predictions={**folder.predictions, **wise, **foolish})
    arms = {result.arm: result for result in measure(apart) if (result.metric, result.scope) == ("auroc", "mean")}
    assert arms["federated"].value == pytest.approx(1.0)
    p_value = permute(apart, arms["federated"], arms["local"])
    assert p_value is not None
    assert p_value == pytest.approx(1 / 2001)  # none of the swaps comes near: the least there is


def test_the_order_of_arms_does_not_matter(run: Path) -> None:
    arms = results_of(folder := read_run(run))
    one = permute(folder, arms["federated"], arms["local"])
    other = permute(folder, arms["local"], arms["federated"])
    assert one == other
    assert one is not None
    assert 0 < one < 1
