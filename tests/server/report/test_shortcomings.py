"""What a run ended without is said first in the report and last by the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from prostafed.server.cli import print_report
from prostafed.server.records.read import read_run
from prostafed.server.report import last_words, write_report
from prostafed.server.report.notices import list_notices
from prostafed.server.report.results import measure
from prostafed.server.report.tables import list_incidents, tabulate_work

REFUSED = {"site": "beta", "code": "MEMORY", "text": "the site refused; its own log says why"}


def evaluated(**changes: Any) -> dict[str, Any]:
    line = {"arm": "federated", "stage": 2, "round": 4, "last": True, "participants": ["alpha", "beta"]}
    traffic = {"bytes_up": 0, "bytes_down": 1_000_000, "seconds": 1.0}
    return {**line, **traffic, "replies": ["alpha"], "rejections": [REFUSED], **changes}


def write_evaluations(run: Path, *lines: dict[str, Any]) -> None:
    (run / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def change_rounds(run: Path, stage: int, number: int, **changes: Any) -> None:
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        if (row["arm"], row["stage"], row["round"]) == ("federated", stage, number):
            row.update(changes)
    (run / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def titles(run: Path) -> list[str]:
    read = read_run(run)
    return [notice.title for notice in list_notices(read, measure(read), [])]


def test_a_run_without_shortcomings_says_nothing(run: Path) -> None:
    write_evaluations(run, evaluated(replies=["alpha", "beta"], rejections=[]))
    assert last_words(run) == []


def test_who_is_missing_is_named_with_the_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_evaluations(run, evaluated())
    assert "beta is missing: MEMORY" in titles(run)[:2]
    page = write_report(run)
    assert "beta is missing: MEMORY" in page.read_text()
    print_report(run, page, as_json=False)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("beta is missing: MEMORY. No answer to the last evaluation")
    assert said[-1].startswith("Not everybody took part to the end. beta did not answer the last evaluation")
    print_report(run, page, as_json=True)
    assert json.loads(capsys.readouterr().out)["warnings"] == last_words(run)


def test_one_that_answered_when_asked_again_is_not_missing(run: Path) -> None:
    write_evaluations(run, evaluated(), evaluated(participants=["beta"], replies=["beta"], rejections=[]))
    assert last_words(run) == []


def test_one_missing_from_an_evaluation_on_the_way_is_an_incident_alone(run: Path) -> None:
    write_evaluations(run, evaluated(round=2, last=False))
    assert last_words(run) == []
    assert [(line.stage, line.round) for line in list_incidents(read_run(run))] == [(2, 2)]


def test_traffic_of_evaluations_is_counted(run: Path) -> None:
    def sent() -> float:
        rows = tabulate_work(read_run(run))
        return next(row["sent_mb"] for row in rows if row["arm"] == "federated" and "fine-tuning" in row["stage"])

    before = sent()
    write_evaluations(run, evaluated(), evaluated(arm="local"))
    assert sent() - before == pytest.approx(1.0)


def test_a_loss_that_ended_far_up_is_told_with_its_value(run: Path) -> None:
    losses = {"alpha": {"loss": 0.5}, "beta": {"loss": 1.2e12}, "gamma": {"loss": 0.5}}
    change_rounds(run, 2, 4, metrics=losses, diverged=["beta"])
    (words,) = last_words(run)
    assert words.startswith("The training loss diverged. ")
    assert "beta in stage 2, 1.2e+12 in round 4" in words
    assert "The training loss diverged" in titles(run)[:2]


def test_a_loss_that_came_back_is_not(run: Path) -> None:
    change_rounds(run, 2, 3, diverged=["beta"])
    assert last_words(run) == []


def test_a_start_from_another_split_is_shouted(run: Path) -> None:
    record = json.loads((run / "study.json").read_text())
    record["study"]["initial"] = {"weights": "checkpoint", "allow_other_split": True}
    (run / "study.json").write_text(json.dumps(record))
    assert titles(run)[1] == "Test patients may have been trained on"
    assert "may be too good" in last_words(run)[0]


def test_a_site_of_which_nothing_was_used_for_several_rounds_is_named_with_the_reason(run: Path) -> None:
    over = {"site": "beta", "code": "APPROVAL_OVER", "text": "the site's approval has ended; ask the hospital"}
    change_rounds(run, 2, 3, rejections=[over], reported=["beta"])
    read = read_run(run)
    (notice,) = [each for each in list_notices(read, measure(read), []) if "several rounds" in each.title]
    assert notice.title == "Nothing of beta was used for several rounds"
    assert notice.text.endswith("round 3 of stage 2 or beyond (APPROVAL_OVER: the site's approval has ended).")


def test_rounds_without_a_told_loss_are_not_said_to_be_none(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    (run / "rounds.jsonl").write_text("".join(json.dumps({**row, "metrics": {}}) + "\n" for row in rows))
    (run / "metrics.csv").unlink()
    page = write_report(run).read_text()
    assert "The sites told no training loss" in page
    assert "No round has been recorded yet" not in page
