"""A coordinator's dossier, from a run folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prostafed.common.dossier.record import Dossier
from prostafed.common.errors import DataError
from prostafed.common.privacy.attacks.finding import write_findings
from prostafed.server.cli import app
from prostafed.server.dossier.answers import make_dossier
from prostafed.server.records.ledger import Entry, Ledger
from tests.common.bundle.tiny_bundle import make_study, make_tensors
from tests.common.privacy.attacks.test_finding import FOUND
from tests.server.export.test_export import write_run

ROOT = Path(__file__).resolve().parents[3]
REJECTED = {"site": "south", "code": "TIMEOUT", "text": "It did not answer."}


def make_run(folder: Path, **changes: Any) -> Path:
    """The run folder of two hospitals, one of which was rejected once and withheld its loss."""
    study = make_study()
    metrics = {"north": {"loss": 0.5, "steps": 4.0}, "south": {"withheld/loss": 10.0}}
    line = {"rejections": [REJECTED], "bytes_up": 2_500_000, "metrics": metrics, **changes}
    return write_run(folder / "tiny-run", study, make_tensors(study), **line)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def say(dossier: Dossier, question: str) -> dict[str, str]:
    return {fact.label: fact.said for fact in dossier.facts if fact.question == question}


def test_what_came_is_counted_by_hospital(run: Path) -> None:
    said = say(make_dossier(run), "left")
    assert said["Rounds"] == "1 aggregated, 0 not"
    assert said["Updates taken in, by hospital"] == "north 1, south 1"
    assert said["Bytes of weights that came"] == "2.5 MB"
    assert said["Metrics that came, by name"] == "train: loss, steps, withheld/loss"
    assert said["Training cases told, by hospital"] == "north 62, south fewer than 10"


def test_refusals_and_what_was_withheld_are_named(run: Path) -> None:
    dossier = make_dossier(run)
    assert say(dossier, "refused")["Refusals and rejected answers"] == "south: TIMEOUT 1"
    assert say(dossier, "cells")["Withheld by hospitals"] == "south: train/withheld/loss 1 times"


def test_without_noise_and_masks_nothing_else_is_claimed(run: Path) -> None:
    dossier = make_dossier(run)
    assert say(dossier, "noise")["Epsilon accounted"] == "no bound: the weights came without noise"
    assert say(dossier, "masks")["The study asks for"] == "no masks: the coordinator sees each hospital's update"


def test_attacks_are_those_of_the_file_beside_it(run: Path) -> None:
    assert say(make_dossier(run), "attacks") == {"Attacks on this model": "not known"}
    write_findings(run / "attacks.json", FOUND)
    assert "0.71 (0.60 to 0.80)" in say(make_dossier(run), "attacks")["Membership, north, loss"]


def test_a_changed_ledger_is_told(run: Path) -> None:
    assert say(make_dossier(run), "records")["Ledger of the run"] == "not known"
    ledger = Ledger(run, make_study().hash())
    ledger.add(Entry("started"))
    ledger.add(Entry("finished"))
    assert say(make_dossier(run), "records")["Ledger of the run"] == "2 lines, none changed or taken out"
    path = run / "ledger.jsonl"
    path.write_text(path.read_text().replace("started", "stopped"))
    assert say(make_dossier(run), "records")["Ledger of the run"].startswith("broken")


def test_every_test_that_is_named_exists(run: Path) -> None:
    write_findings(run / "attacks.json", FOUND)
    facts = make_dossier(run).facts
    assert not [fact for fact in facts if fact.source == "the program" and not fact.test]
    assert not [fact for fact in facts if fact.value is not None and not fact.source]
    named = {fact.test for fact in facts if fact.test}
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_the_command_writes_page_and_json(run: Path) -> None:
    called = CliRunner().invoke(app, ["dossier", str(run), "--json"])
    assert called.exit_code == 0, called.output
    assert json.loads(called.stdout)["page"] == str(run / "dossier.html")
    assert json.loads((run / "dossier.json").read_text())["study"] == make_study().name
    assert "What left the hospital?" in CliRunner().invoke(app, ["dossier", str(run)]).stdout


def test_what_is_no_run_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        make_dossier(tmp_path)
