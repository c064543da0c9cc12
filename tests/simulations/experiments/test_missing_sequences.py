"""The study of missing sequences runs end to end; its figures are in the lab log, not here."""

import json
import sys

import pytest

from prostafed.simulations.experiments import missing_sequences


def test_a_tiny_study_is_one_json_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--seeds 1 --cases 6 --steps 2 --test-cases 9 --json"
    monkeypatch.setattr(sys, "argv", ["missing_sequences", *arguments.split()])
    missing_sequences.main()
    found = json.loads(capsys.readouterr().out)
    assert found["generated"] is True
    assert {(row["arm"], row["test"]) for row in found["rows"]} == {
        (arm, test) for arm in missing_sequences.ARMS for test in ("complete", "without hbv")
    }
    assert all(0 <= row["auroc"] <= 1 for row in found["rows"])
