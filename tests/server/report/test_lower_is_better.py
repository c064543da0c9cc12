"""A run judged by a metric of which less is better, with a unit, beyond 1: distances between surfaces, in mm."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.server.records.read import read_run
from prostafed.server.report import plots, write_report
from prostafed.server.report.results import measure
from prostafed.server.report.tables import tabulate_results
from prostafed.server.report.verdict import write_verdict


@pytest.fixture
def distances(make_run: Callable[..., Path]) -> Callable[[float], Path]:
    """Return a maker of runs in which the federated arm is so many mm off, and the local one 6."""

    def make(federated: float) -> Path:
        run = make_run(stages=[{"kind": "finetune", "task": "anatomy", "rounds": 2}], arms=("federated", "local"))
        lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
        for number, line in enumerate(lines):
            off = federated if line["arm"] == "federated" else 6.0
            line |= {
                "label": None,
                "score": None,
                "measures": {"gland_hd95_mm": off + number % (3 if off == 6 else 4) / 10},
            }
        (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


@pytest.mark.parametrize(("federated", "best", "reading"), [(3.0, "Federated", "better"), (9.0, "Local only", "worse")])
def test_the_lowest_arm_is_best_and_the_difference_read_so(
    distances: Callable[[float], Path], federated: float, best: str, reading: str
) -> None:
    run = distances(federated)
    folder = read_run(run)
    said = write_verdict(folder, measure(folder))
    assert said.startswith(
        f"{best} training scored lowest on generated images, with a mean Gland HD95 over 3 sites of "
    )
    assert " mm (95 % interval " in said
    found = re.search(r"\(by (\d\.\d\d), interval \+(\d\.\d\d) to \+(\d\.\d\d)\)", said)
    assert found
    value, low, high = map(float, found.groups())
    assert low < value < high
    assert "it is better than" in said
    page = write_report(run).read_text()
    assert f"<td>federated is {reading}</td>" in page
    assert "csPCa" not in page[page.index("<h2>Results on") : page.index("<h2>Learning curves")]


def test_an_axis_reaches_as_far_as_the_values(distances: Callable[[float], Path]) -> None:
    (axis,) = plots.draw(plots.plot_results, tabulate_results(measure(read_run(distances(9.0))))).axes
    assert axis.get_xlim()[1] > 9
    assert axis.get_xlabel() == "Gland HD95 (mm) on test patients (0 is perfect)"
    rows = [
        {"stage": 1, "arm": "federated", "site": "a", "round": number, "metric": "gland_hd95_mm", "value": 8.0 + number,
         "cases": 9} for number in (1, 2)
    ]  # fmt: skip
    (axis, *_) = plots.draw(plots.plot_validation, rows, {1: "Stage 1"}).axes
    assert axis.get_ylim()[1] >= 10
    assert axis.get_ylabel() == "Gland HD95 (mm), 0 is perfect"


def test_a_run_of_a_task_that_is_not_listed_is_a_sentence(make_run: Callable[..., Path]) -> None:
    run = make_run(stages=[{"kind": "finetune", "task": "volumes", "rounds": 2}])
    with pytest.raises(ConfigurationError, match=r"Expected a task of this release, found 'volumes'"):
        write_report(run)
