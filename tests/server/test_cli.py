"""What the coordinator sees of a round while it runs."""

from pathlib import Path

import pytest

from prostafed.common.shell.progress import Said, tell
from prostafed.server import cli
from prostafed.server.link import submission
from prostafed.server.records.lines import RoundLine
from tests.programs import call
from tests.server.report.test_shortcomings import change_rounds

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


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_that_went_on_without_a_site_does_not_end_as_others(
    lost: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lost:
        change_rounds(
            run, 2, 4, replies=["alpha", "gamma"], rejections=[{"site": "beta", "code": "NODE_LOST", "text": "gone"}]
        )

    def follow(home: Path, asked: object, on_round: object) -> Path:
        tell(Said("tiny", "not ready: beta (NOT_APPROVED)"))
        return run

    monkeypatch.setattr(submission, "run_study", follow)
    study = tmp_path / "study.toml"
    study.write_text('name = "tiny"\n[[stage]]\nkind = "pretrain"\nrounds = 1\n')
    done = call("prostafed-server", "run", study, "--sites", 3, "--home", tmp_path)
    assert done.code == (3 if lost else 0)
    assert "tiny: not ready: beta (NOT_APPROVED)" in done.err, "nobody listens to what is told"
    assert done.out.splitlines()[-1].startswith(
        "Not everybody took part" if lost else "Every site took part to the end"
    )
    done = call("prostafed-server", "run", study, "--sites", 3, "--home", tmp_path, "--json")
    assert (done.code, done.json["complete"]) == (3 if lost else 0, not lost)
    assert [each["site"] for each in done.json["missing"]] == (["beta"] if lost else [])
    assert call("prostafed-server", "report", run).code == 0, "the report could be written"
