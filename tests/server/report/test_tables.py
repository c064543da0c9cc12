import csv
import json
from pathlib import Path

from prostafed.server.records.read import read_run
from prostafed.server.report.tables import (
    label_stage,
    list_incidents,
    planned_arms,
    tabulate_loss,
    tabulate_rounds,
    tabulate_updates,
    tabulate_validation,
    tabulate_work,
    write_csv,
)


def change_line(run: Path, index: int, **values: object) -> None:
    lines = (run / "rounds.jsonl").read_text().splitlines()
    lines[index] = json.dumps(json.loads(lines[index]) | values)
    (run / "rounds.jsonl").write_text("\n".join(lines) + "\n")


def test_stages_are_named_in_words(run: Path) -> None:
    folder = read_run(run)
    assert label_stage(folder, 1) == "Stage 1: pretraining (conditional)"
    assert label_stage(folder, 2) == "Stage 2: fine-tuning (lesion)"
    assert label_stage(folder, 3) == "Stage 3"


def test_loss_has_a_row_per_round_and_site(run: Path) -> None:
    rows = tabulate_loss(read_run(run))
    assert len(rows) == 7 * (3 + 3 + 1)
    assert [row["site"] for row in rows if (row["stage"], row["arm"], row["round"]) == (1, "federated", 1)] == [
        *("alpha", "beta", "gamma")
    ]
    (run / "rounds.jsonl").unlink()
    assert tabulate_loss(read_run(run)) == rows  # metrics.csv says the same


def test_validation_takes_the_task_s_main_metric(run: Path) -> None:
    rows = tabulate_validation(read_run(run))
    assert {row["metric"] for row in rows} == {"picai_score"}
    assert {row["stage"] for row in rows} == {2}
    assert len(rows) == 4 * (3 + 3 + 1)


def test_work_counts_rounds_against_the_plan(run: Path) -> None:
    rejection = {"site": "beta", "code": "NOT_FINITE", "text": "holds NaN"}
    change_line(run, 6, aggregated=False, replies=["alpha"], rejections=[rejection])
    folder = read_run(run)
    rows = {(row["stage"], row["arm"]): row for row in tabulate_work(folder)}
    last = rows["Stage 2: fine-tuning (lesion)", "federated"]
    assert (last["done"], last["planned"], last["not_aggregated"], last["rejections"]) == (3, 4, 1, 1)
    local = rows["Stage 2: fine-tuning (lesion)", "local"]
    assert (local["done"], local["planned"]) == (12, 12)
    assert last["sent_mb"] == 4 * 7.5
    assert [(line.stage, line.round) for line in list_incidents(folder)] == [(2, 4)]
    assert tabulate_rounds(folder)[6]["rejections"] == "beta NOT_FINITE: holds NaN"


def test_an_arm_that_has_not_begun_is_still_planned(run: Path) -> None:
    lines = (run / "rounds.jsonl").read_text().splitlines()
    (run / "rounds.jsonl").write_text("\n".join(lines[:3]) + "\n")
    for name in ("metrics.csv", "predictions.jsonl"):
        (run / name).unlink()
    folder = read_run(run)
    assert planned_arms(folder) == ["federated", "local", "pooled"]
    assert [row["done"] for row in tabulate_work(folder)] == [3, 0, 0, 0, 0, 0]


def test_csv_reads_back(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    write_csv(table, [{"site": 'a, "b"', "value": 0.5}, {"site": "c", "value": 1}])
    assert list(csv.DictReader(table.read_text().splitlines())) == [
        {"site": 'a, "b"', "value": "0.5"},
        {"site": "c", "value": "1"},
    ]
    write_csv(table, [])
    assert table.read_text() == ""


def test_updates_are_those_of_the_federation_that_counted(run: Path) -> None:
    sent = {"norms": {"alpha": 2.0, "beta": 1.0}, "cosines": {"alpha": {"beta": 0.5}}, "influence": {"alpha": 0.4}}
    change_line(run, 0, **sent)
    change_line(run, 1, **sent, aggregated=False)
    change_line(run, -1, **sent)  # another arm's
    rows = tabulate_updates(read_run(run))
    assert [(row["round"], row["site"], row["norm"], row["likeness"], row["influence"]) for row in rows] == [
        (1, "alpha", 2.0, 0.5, 0.4),
        (1, "beta", 1.0, None, None),
    ]
