"""Who a run went on without, in words and in numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from prostafed.server.records.read import read_run
from prostafed.server.report import describe_ending, write_report
from prostafed.server.report.missing import find_missing, say_ending
from tests.server.report.test_shortcomings import change_rounds, evaluated, write_evaluations

ALL = ["alpha", "beta", "gamma"]
LOST = {"site": "beta", "code": "NODE_LOST", "text": "the connection to the site was lost; no answer came"}


def without(run: Path, *rounds: tuple[int, int], code: str = "NODE_LOST", asked: bool = True) -> None:
    """Beta gives nothing in these rounds of stages: it is turned away, or not there at all."""
    for stage, number in rounds:
        change_rounds(
            run,
            stage,
            number,
            replies=["alpha", "gamma"],
            participants=ALL if asked else ["alpha", "gamma"],
            rejections=[{**LOST, "code": code}] if asked else [],
            cases={"alpha": 62, "gamma": 62},
        )


def change_study(run: Path, **section: Any) -> None:
    record = json.loads((run / "study.json").read_text())
    record["study"]["round"] = section
    (run / "study.json").write_text(json.dumps(record))


def make_real(run: Path, tested: dict[str, int], **record: Any) -> None:
    """Make the simulation's folder a coordinator's: no federation, no predictions; what sites sent of their tests."""
    for name in ("federation.json", "predictions.jsonl"):
        (run / name).unlink()
    lines = [line for line in (run / "metrics.csv").read_text().splitlines() if ",test," not in line]
    rows = [f"federated,2,4,{site},test,n,{value},{value}" for site, value in tested.items()]
    (run / "metrics.csv").write_text("\n".join([*lines, *rows]) + "\n")
    before = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**before, **record}))


def write_ledger(run: Path, *lines: tuple[str, int, int, str, str]) -> None:
    keys = ("event", "stage", "round", "site", "text")
    rows = [{**dict(zip(keys, line, strict=True)), "time": "", "study_hash": ""} for line in lines]
    (run / "ledger.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_with_everybody_says_so_in_one_line(run: Path) -> None:
    write_evaluations(run, evaluated(participants=ALL, replies=ALL, rejections=[]))
    assert describe_ending(run) == ("Every site took part to the end: alpha, beta and gamma.", [])
    assert "Not everybody" not in write_report(run).read_text()


def test_a_run_that_has_not_ended_claims_nothing(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "running"}))
    assert describe_ending(run) == ("", [])


@pytest.mark.parametrize("asked", [True, False])
def test_one_that_was_lost_and_did_not_come_back_is_told_from_its_first_round_on(run: Path, asked: bool) -> None:
    without(run, (2, 2), (2, 3), (2, 4), asked=asked)
    write_evaluations(run, evaluated(participants=ALL, replies=["alpha", "gamma"], rejections=[LOST]))
    (missing,) = find_missing(read_run(run))
    assert (missing.site, missing.stage, missing.round, missing.training_cases) == ("beta", 2, 2, 62)
    assert missing.code == ("NODE_LOST" if asked else "NOT_THERE")
    assert (missing.took_part, missing.measured, missing.test_cases) == (True, False, 36)
    why = "the connection to the site was lost" if asked else "not connected"
    assert say_ending(read_run(run)) == (
        f"Not everybody took part to the end. beta is missing from round 2 of stage 2 on ({why}): "
        "nothing was learnt from its 62 training cases since then. "
        "The result was measured on 72 of 108 test cases, at alpha and gamma; beta (36) is missing."
    )


@pytest.mark.parametrize("rounds", [[(1, 2)], [(1, 1), (1, 2), (1, 3)], [(2, 3)]])
def test_one_that_came_back_is_not_missing(run: Path, rounds: list[tuple[int, int]]) -> None:
    without(run, *rounds)
    assert find_missing(read_run(run)) == []


def test_one_that_others_were_quicker_than_is_not_missing(run: Path) -> None:
    without(run, (2, 3), (2, 4), code="NOT_NEEDED")
    assert find_missing(read_run(run)) == []


def test_one_lost_in_training_that_was_measured_all_the_same(run: Path) -> None:
    without(run, (2, 4), code="APPROVAL_OVER")
    write_evaluations(run, evaluated(participants=ALL, replies=ALL, rejections=[]))
    (missing,) = find_missing(read_run(run))
    assert (missing.code, missing.stage, missing.round, missing.measured) == ("APPROVAL_OVER", 2, 4, True)
    assert say_ending(read_run(run)).endswith("The result was measured on 108 test cases, at alpha, beta and gamma.")


def test_one_that_never_took_part_is_told(run: Path) -> None:
    record = json.loads((run / "federation.json").read_text())
    record["sites"].append({"name": "west", "source": "phantom", "cases": 12})
    (run / "federation.json").write_text(json.dumps(record))
    (missing,) = find_missing(read_run(run))
    assert (missing.site, missing.took_part) == ("west", False)
    assert "west never took part (not connected): nothing was learnt" in say_ending(read_run(run))


def test_one_that_was_not_drawn_lacks_nothing_unless_it_left(run: Path) -> None:
    make_real(run, dict.fromkeys(ALL, 10))
    without(run, (2, 3), (2, 4), asked=False)
    change_study(run, participants=2)
    assert find_missing(read_run(run)) == []
    write_ledger(run, ("left", 2, 1, "beta", ""), ("joined", 2, 2, "beta", ""))
    assert find_missing(read_run(run)) == []
    write_ledger(run, ("left", 2, 1, "beta", ""), ("joined", 2, 2, "beta", ""), ("left", 2, 4, "beta", ""))
    (missing,) = find_missing(read_run(run))
    assert (missing.site, missing.stage, missing.round) == ("beta", 2, 4)


def test_what_is_not_known_is_not_made_up(run: Path) -> None:
    make_real(run, {"alpha": 20, "gamma": 14})
    write_evaluations(run, evaluated(participants=ALL, replies=["alpha", "gamma"], rejections=[LOST]))
    assert say_ending(read_run(run)).endswith(
        "measured on 34 test cases, at alpha and gamma; beta (its number of test cases is not known) is missing."
    )
    with (run / "metrics.csv").open("a") as file:
        file.write("federated,2,4,gamma,test,withheld/n,10,0\n")
    assert say_ending(read_run(run)).endswith(
        "measured at alpha and gamma; beta (its number of test cases is not known) is missing."
    )


def test_those_who_were_expected_and_never_came_are_counted(run: Path) -> None:
    make_real(run, {}, sites_expected=5)
    write_ledger(
        run, ("refused", 0, 0, "west", "DATA (the site has no cases)"), ("refused", 0, 0, "beta", "DATA (once)")
    )
    first, second = find_missing(read_run(run))
    assert (first.site, first.code, first.took_part) == ("west", "DATA", False)
    assert (second.site, second.took_part) == ("one that never connected", False)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "sites_expected": 3}))
    assert find_missing(read_run(run)) == [], "one too many that was refused lacks nothing"


def test_a_run_of_pretraining_alone_measures_nothing(make_run: Any) -> None:
    run = make_run(stages=[{"kind": "pretrain", "method": "conditional", "rounds": 3, "share": ["encoder"]}])
    without(run, (1, 3))
    said = say_ending(read_run(run))
    assert "beta is missing from round 3 of stage 1 on" in said
    assert "measured" not in said


def test_the_report_says_it_before_anything_else(run: Path) -> None:
    without(run, (2, 3), (2, 4))
    page = write_report(run).read_text()
    header = page[page.index("<h1>") : page.index('<p class="verdict">')]
    assert "Not everybody took part to the end" in header
    assert "beta is missing from round 3 of stage 2 on" in header
