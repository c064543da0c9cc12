"""A model per kind of line: strict where it is written, patient where it is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prostafed.server.records.lines import EvaluationLine, Line, MetricLine, RoundLine, RunRecord, SiteLine
from prostafed.server.records.read import read_metrics, read_rounds, read_run_record
from prostafed.server.records.write import METRIC_COLUMNS, write_metrics, write_rounds, write_run_record

ROUND = RoundLine(stage=1, round=2, replies=("north",), norms={"north": 0.1})
METRIC = MetricLine(stage=1, round=2, site="north", split="test", metric="auroc", value=0.75, n=9)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (RoundLine, {"stage": 1, "round": 1, "replys": ()}),
        (EvaluationLine, {"stage": 1, "round": 1, "norms": {}}),
        (RunRecord, {"epsilon": 3.5}),
        (RoundLine, {"stage": 1}),
        (RoundLine, {"stage": "one", "round": 1}),
    ],
)
def test_a_line_is_not_written_with_another_key_or_kind(model: type[Line], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**values)


def test_what_was_not_set_is_not_written() -> None:
    assert ROUND.written() == {"stage": 1, "round": 2, "replies": ("north",), "norms": {"north": 0.1}}
    assert ROUND.changed(arm="local").written() == {"arm": "local", **ROUND.written()}
    assert RunRecord(sent={"up": 1}).written() == {"bytes": {"up": 1}}


def test_a_change_is_checked() -> None:
    with pytest.raises(ValidationError):
        ROUND.changed(arms="local")


def test_what_a_later_release_adds_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "rounds.jsonl").write_text(json.dumps({**ROUND.written(), "epsilon": 3.5}) + "\n")
    assert read_rounds(tmp_path) == [ROUND]
    site = {"name": "north", "source": "phantom", "beds": 300}
    assert SiteLine(**site).written() == site, "what a federation file says of a site is kept whole"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    lines = [ROUND, ROUND.changed(metrics={"north": {"loss": float("inf"), "steps": 1e-9}})]
    write_rounds(tmp_path, lines)
    assert read_rounds(tmp_path) == lines
    write_metrics(tmp_path, [METRIC])
    assert read_metrics(tmp_path) == [METRIC]
    write_metrics(tmp_path, [METRIC.changed(arm="local")], ("arm", *METRIC_COLUMNS))
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1] == "local,1,2,north,test,auroc,0.75,9"


def test_the_run_record_keeps_what_nobody_says_anew(tmp_path: Path) -> None:
    first = write_run_record(tmp_path, "running", ended=False, data_fingerprint="ab")
    assert first.finished is None
    last = write_run_record(tmp_path, "finished", ended=True, seconds=3.0)
    assert (last.started, last.data_fingerprint, last.seconds, last.state) == (first.started, "ab", 3.0, "finished")
    assert last.finished is not None
    assert read_run_record(tmp_path) == last
