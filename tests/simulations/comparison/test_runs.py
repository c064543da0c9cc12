"""A comparison takes up the runs of its own federation and cases, and no others; a run that fails costs itself."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError, ConfigurationError, RoundError
from prostafed.common.study import Study
from prostafed.simulations.comparison import runs
from prostafed.simulations.comparison.cells import vary
from prostafed.simulations.comparison.page import write_page
from prostafed.simulations.comparison.runs import (
    Comparison,
    list_arms_left_out,
    list_wanting,
    run_comparison,
    summarise,
)
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.run.simulation import Simulation, Watchers


def compare(comparison: Comparison) -> tuple[list[dict[str, object]], list[str]]:
    return run_comparison(comparison, lambda study: nullcontext(Watchers()), lambda name, number, count: None)


@pytest.fixture
def comparison(
    study: Study,
    federation: Federation,
    cache: Path,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Comparison:
    """A comparison of one cell, run once: its run is a copy of the finished one."""

    def run(simulation: Simulation, resume: bool, watchers: Watchers) -> None:
        shutil.copytree(finished_run, simulation.out)

    monkeypatch.setattr(runs, "run_simulation", run)
    own = shutil.copytree(cache, tmp_path / "cache")
    made = Comparison(vary(study, {}), Simulation(study, federation, tmp_path / "out", own), tmp_path / "out")
    assert compare(made)[0]

    def refuse(simulation: Simulation, resume: bool, watchers: Watchers) -> None:
        raise AssertionError("a finished run is not run again")

    monkeypatch.setattr(runs, "run_simulation", refuse)
    return made


def test_finished_runs_of_the_same_federation_and_cases_are_taken_up(comparison: Comparison) -> None:
    rows, failed = compare(comparison)
    assert {row["arm"] for row in rows} == {"federated", "local", "pooled"}
    assert failed == []


def test_runs_of_another_federation_are_not_taken_up(comparison: Comparison) -> None:
    first, *others = comparison.base.federation.site
    other = Federation(site=(first.model_copy(update={"cases": 12}), *others))
    with pytest.raises(ConfigurationError, match="another study or federation"):
        compare(replace(comparison, base=replace(comparison.base, federation=other)))


def test_runs_on_other_cases_are_not_taken_up(comparison: Comparison) -> None:
    for complete in comparison.base.cache.glob("cases/north-*/complete.json"):
        complete.write_text(json.dumps({"fingerprint": "other", "left_out": []}))
    with pytest.raises(CheckpointError, match="other cases"):
        compare(comparison)


def test_a_run_that_fails_does_not_stop_the_others(
    comparison: Comparison, finished_run: Path, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(simulation: Simulation, resume: bool, watchers: Watchers) -> None:
        if simulation.study.seed == study.seed:
            raise RoundError("Nobody answered.")
        shutil.copytree(finished_run, simulation.out)

    monkeypatch.setattr(runs, "run_simulation", run)
    cells = vary(study, {}, seeds=2)
    rows, failed = compare(Comparison(cells, comparison.base, tmp_path / "two"))
    assert {row["seed"] for row in rows} == {study.seed + 1}
    assert failed == [f"{cells[0].name}: Nobody answered."]


def test_the_page_names_the_arms_that_were_left_out(comparison: Comparison) -> None:
    record = comparison.out / "cells" / comparison.cells[0].name / "run.json"
    left_out = {"arm": "local", "run": "local-north", "why": "No <label>."}
    record.write_text(json.dumps({**json.loads(record.read_text()), "arms_left_out": [left_out, left_out]}))
    assert list_arms_left_out(comparison) == ["local-north: No <label>."]
    page = write_page(comparison.out, summarise(compare(comparison)[0]), 1, True, "", list_arms_left_out(comparison))
    assert "local-north: No &lt;label&gt;." in page.read_text()


@pytest.mark.parametrize("error", [RoundError, ConfigurationError])
def test_a_run_that_cannot_be_costs_itself_and_a_failed_arm_only_that_arm(
    comparison: Comparison, finished_run: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def run(simulation: Simulation, resume: bool, watchers: Watchers) -> None:
        if simulation.study.seed == seed:
            raise error("It cannot be.")
        shutil.copytree(finished_run, simulation.out)
        record = json.loads((simulation.out / "run.json").read_text())
        record |= {"state": "interrupted", "arms_failed": {"local-north": "why"}}
        (simulation.out / "run.json").write_text(json.dumps(record))
        raise RoundError("The arm local-north failed: why")

    seed = comparison.base.study.seed
    shutil.rmtree(comparison.out)
    monkeypatch.setattr(runs, "run_simulation", run)
    both = replace(comparison, cells=vary(comparison.base.study, {}, seeds=2))
    rows, failed = compare(both)
    assert [line.rpartition(": ")[2] for line in failed] == ["It cannot be.", "why"]
    assert {row["seed"] for row in rows} == {seed + 1}


def test_a_missing_site_of_a_run_is_said_of_the_comparison(comparison: Comparison) -> None:
    evaluations = comparison.out / "cells" / comparison.cells[0].name / "evaluations.jsonl"
    lines = [json.loads(line) for line in evaluations.read_text().splitlines()]
    for line in lines:
        if line["last"] and line["arm"] == "federated":
            lost = line["replies"].pop() if isinstance(line["replies"], list) else sorted(line["replies"])[-1]
            line["metrics"].pop(lost, None)
            line["rejections"] = [{"site": lost, "code": "NOT_THERE", "text": "not connected"}]
    evaluations.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (said,) = list_wanting(comparison)
    assert "is missing: NOT_THERE" in said
    assert said in write_page(comparison.out, [], 1, True, "", [], [said]).read_text()
