"""The study of membership on a handful of cases: it runs, and what it was run with is what it says."""

import csv
import json
import sys
from pathlib import Path

import pytest

from prostafed.common.shell.configuration import parse
from prostafed.common.study import Study
from prostafed.simulations.experiments import membership

FEW = ["--seeds", "1", "--cases", "8", "--rounds", "1", "--epochs", "1"]


def test_without_noise_a_line_per_attack_and_site(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*FEW, "--epsilon", "0", "--cache", str(cache), "--out", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", ["membership", *options])
    membership.main()
    told = json.loads(capsys.readouterr().out)
    assert told["generated"] is True
    assert {row["site"] for row in told["rows"]} == {"north", "east", "south", "all"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in told["rows"])
    rows = list(csv.DictReader((tmp_path / "membership.csv").open()))
    assert len(rows) == len(told["rows"])


@pytest.mark.parametrize("epsilon", [0.0, 3.0])
def test_noise_is_the_only_difference(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["membership", "--out", "nowhere"])
    arguments = membership._read_arguments()
    plain = parse(membership.make_study(arguments, 0.0, seed=2), Study, "test")
    study = parse(membership.make_study(arguments, epsilon, seed=2), Study, "test")
    assert study.model_copy(update={"privacy": plain.privacy}) == plain
    assert study.privacy.epsilon == (epsilon or None)
    assert study.privacy.unit == ("patient" if epsilon else "none")
