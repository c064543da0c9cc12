import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prostafed.server.records.read import read_run
from prostafed.server.report.results import Result, measure
from prostafed.server.report.verdict import compare, format_signed, judged, scarce_sites, write_verdict


def verdict(run: Path) -> str:
    folder = read_run(run)
    return write_verdict(folder, measure(folder))


def test_the_best_arm_is_named_with_what_is_shown_and_what_is_not(run: Path) -> None:
    text = verdict(run)
    assert text.startswith(
        "Pooled training scored highest on generated images, with a mean PI-CAI score over 3 sites of "
    )
    assert "it is better than local only (by " in text
    assert "that it is better than federated (by " in text
    assert text.endswith("is not shown by these 108 patients.")


def test_equal_arms_are_not_told_apart(make_run: Callable[..., Path]) -> None:
    run = make_run(arms=("federated", "local"))
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    federated = [line for line in lines if line["arm"] == "federated"]
    twins = federated + [line | {"arm": "local"} for line in federated]
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in twins))
    assert "it is better than local only (by 0.00, interval 0.00 to 0.00) is not shown" in verdict(run)


def test_few_patients_show_nothing(make_run: Callable[..., Path]) -> None:
    run = make_run(patients=24)  # 8 of them with csPCa at each site
    folder = read_run(run)
    results = measure(folder)
    arms = judged(folder, results)
    assert scarce_sites(results, arms) == {"alpha": (8, 16), "beta": (8, 16), "gamma": (8, 16)}
    assert verdict(run).endswith("is not shown by these 72 patients, who are too few.")
    assert "it is better than local only" not in verdict(run).split(": ")[1].split("that")[0]
    assert compare(folder, arms[0], arms[1]).shown
    assert not compare(folder, arms[0], arms[1], few=True).shown


def test_enough_patients_are_not_scarce(run: Path) -> None:
    folder = read_run(run)
    results = measure(folder)
    assert scarce_sites(results, judged(folder, results)) == {}


def test_where_cancer_is_not_judged_cases_are_counted(run: Path) -> None:
    results = [replace(result, positives=None) for result in measure(read_run(run))]
    arms = judged(read_run(run), results)
    assert scarce_sites(results, arms) == {}
    few = [replace(result, cases=9 if result.site == "beta" else 10) for result in results]
    assert scarce_sites(few, arms) == {"beta": (9,)}


def test_real_images_are_not_called_generated(run: Path) -> None:
    (run / "federation.json").write_text(json.dumps({"sites": [{"name": "alpha", "source": "picai"}]}))
    assert "generated" not in verdict(run)


def test_one_arm_is_compared_with_nothing(make_run: Callable[..., Path]) -> None:
    run = make_run(arms=("federated",))
    assert verdict(run).endswith("; no other arm was run beside it.")
    (run / "predictions.jsonl").unlink()
    assert "per site; no other arm" in verdict(run)  # no interval of the mean: the spread instead


def test_one_site_is_named(make_run: Callable[..., Path]) -> None:
    assert "PI-CAI score at alpha of " in verdict(make_run(sites=("alpha",)))


@pytest.mark.parametrize(
    ("stages", "state", "expected"),
    [
        ([{"kind": "pretrain", "method": "restore", "rounds": 2}], "finished", "only pretrained an encoder"),
        (None, "interrupted", "no test result yet"),
        (None, "finished", "no site had labelled test patients"),
    ],
)
def test_no_result_is_explained(make_run: Callable[..., Path], stages: object, state: str, expected: str) -> None:
    run = make_run(stages=stages)
    for name in ("predictions.jsonl", "metrics.csv"):
        (run / name).unlink()
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": state}))
    assert expected in verdict(run)


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [((0.7, 0.8), (0.5, 0.6), True), ((0.5, 0.6), (0.7, 0.8), True), ((0.5, 0.7), (0.6, 0.8), False)],
)
def test_without_the_patients_overlapping_intervals_show_nothing(
    run: Path, first: tuple[float, float], second: tuple[float, float], shown: bool
) -> None:
    def result(arm: str, interval: tuple[float, float]) -> Result:
        return Result(2, "lesion", "auroc", arm, "mean", "alpha, beta", sum(interval) / 2, *interval)

    difference = compare(read_run(run), result("federated", first), result("local", second))
    assert (difference.shown, difference.paired) == (shown, False)


def test_pairing_needs_the_same_patients(run: Path) -> None:
    folder = read_run(run)
    federated, local, _ = judged(folder, measure(folder))
    assert compare(folder, federated, local).paired
    fewer = {key: cases[:-1] if key[1] == "local" else cases for key, cases in folder.predictions.items()}
    assert not compare(replace(folder, predictions=fewer), federated, local).paired


def test_a_paired_difference_is_sharper_than_two_intervals(run: Path) -> None:
    folder = read_run(run)
    federated, _, pooled = judged(folder, measure(folder))
    difference = compare(folder, federated, pooled)
    assert federated.resamples is not None
    assert pooled.resamples is not None
    assert (difference.high or 0) - (difference.low or 0) < np.std(federated.resamples) + np.std(pooled.resamples)


@pytest.mark.parametrize(("value", "text"), [(0.123, "+0.12"), (-0.126, "−0.13"), (0.004, "0.00"), (-0.004, "0.00")])
def test_a_difference_carries_its_sign(value: float, text: str) -> None:
    assert format_signed(value) == text
