"""What the coordinator sees of a round while it runs."""

import pytest

from prostafed.server import cli
from prostafed.server.records.lines import RoundLine

ROUND = RoundLine(stage=1, round=3, kind="finetune", seconds=2.5)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"north": {"loss": 0.25, "steps": 4.0}, "south": {"withheld/loss": 10.0}}, "loss north 0.250, south withheld"),
        ({}, "loss none"),
    ],
)
def test_a_loss_that_a_site_withholds_is_said_to_be(
    metrics: dict[str, dict[str, float]], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli._show_round(ROUND.model_copy(update={"metrics": metrics}))
    assert expected in capsys.readouterr().err
