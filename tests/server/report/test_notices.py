"""What a reader is told before the numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from prostafed.server.records.lines import RoundLine
from prostafed.server.records.read import read_run
from prostafed.server.report.notices import list_notices
from tests.server.conftest import write_run


@pytest.mark.parametrize(
    ("aggregate", "replies", "said"),
    [
        ("trimmed_mean", 2, True),
        ("trimmed_mean", 3, False),
        ("geometric_median", 2, True),
        ("fedmedian", 1, True),
        ("fedavg", 1, False),
        ("of-another-release", 1, False),
    ],
)
def test_a_robust_rule_that_had_too_few_replies(tmp_path: Path, aggregate: str, replies: int, said: bool) -> None:
    sites = ("a", "b", "c")[:replies]
    line = RoundLine(stage=1, round=1, aggregate=aggregate, replies=sites, participants=sites)
    alone = RoundLine(arm="local", stage=1, round=1, aggregate=aggregate, replies=("a",), participants=("a",))
    run = replace(read_run(write_run(tmp_path / "run")), rounds=(line, line, alone))
    found = [notice for notice in list_notices(run, [], []) if notice.title == f"{aggregate} of too few replies"]
    assert bool(found) == said
    assert not said or found[0].text.startswith("2 rounds had fewer than 3 replies")
