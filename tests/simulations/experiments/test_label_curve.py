"""The label curve runs end to end; its figures are in the lab log, not here."""

import json
import sys

import pytest

from prostafed.simulations.experiments import label_curve


def test_a_tiny_curve_is_one_json_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--seeds 1 --sizes 2 4 --steps 2 --test-cases 9 --json"
    monkeypatch.setattr(sys, "argv", ["label_curve", *arguments.split()])
    label_curve.main()
    found = json.loads(capsys.readouterr().out)
    assert found["generated"] is True
    assert [row["labelled_cases"] for row in found["rows"]] == [2, 4]
    assert all(0 <= row["auroc"] <= 1 for row in found["rows"])
