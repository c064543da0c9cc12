"""The label-budget study runs end to end and goes on where it was stopped; its figures are in the lab log, not here."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from prostafed.common.models.checkpoint import read_checkpoint
from prostafed.simulations.experiments import label_budget
from prostafed.simulations.experiments.budget_cells import BudgetCell, Parameters, read_cells, write_cells
from prostafed.simulations.experiments.budget_figure import plot
from prostafed.simulations.experiments.budget_starts import STARTS
from prostafed.simulations.experiments.label_curve import make_network

TINY = "--seeds 1 --percents 50 100 --cases 9 --test-cases 12 --steps 2 --rounds 1 --json"


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path, more: str
) -> dict[str, object]:
    monkeypatch.setattr(sys, "argv", ["label_budget", *TINY.split(), "--out", str(out), *more.split()])
    label_budget.main()
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_tiny_study_goes_on_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    measured: list[tuple[str, int]] = []
    measure = label_budget.measure

    def counted(parameters: Parameters, start: str, seed: int, percent: int, *rest: object) -> BudgetCell:
        measured.append((start, percent))
        return measure(parameters, start, seed, percent, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(label_budget, "measure", counted)
    first = call(monkeypatch, capsys, tmp_path, "--starts random simclr")
    assert measured == [("random", 50), ("random", 100), ("simclr", 50), ("simclr", 100)]
    encoder = read_checkpoint(tmp_path / "encoders" / "simclr-0.safetensors")[0]
    start = make_network({}, 0, Parameters((), 1, (), 9, 9, 1, 1).grid).state_dict()
    assert set(encoder) == set(start)
    assert any((encoder[name] != start[name].numpy()).any() for name in encoder), "it was pretrained"

    kept = tmp_path / "cells.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([*lines[:2], lines[3]]) + "\n")  # as if it had been stopped, and one cell run alone
    assert call(monkeypatch, capsys, tmp_path, "--starts random simclr") == first
    assert measured[4:] == [("simclr", 50)]

    rows = list(csv.DictReader((tmp_path / "label_budget.csv").open()))
    assert [(row["start"], int(row["percent"])) for row in rows] == measured[:4]
    assert {row["config"] for row in rows} == {first["config"]}
    assert json.loads((tmp_path / "label_budget.json").read_text())["parameters"]["images"] == "generated"
    assert (tmp_path / "label_budget.png").read_bytes().startswith(b"\x89PNG")


def test_cells_of_other_parameters_are_not_mixed_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_cells(tmp_path / "cells.jsonl", [BudgetCell("random", 0, 5, 10, 2, 0.5, "f" * 64)])
    with pytest.raises(SystemExit, match=r"cells of the parameters f{12}, this study has .* another --out"):
        call(monkeypatch, capsys, tmp_path, "--starts random")


def test_imagenet_is_left_out_without_a_file_and_starts_from_one_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(label_budget, "run", lambda parameters, out, weights: parameters)
    monkeypatch.setattr(label_budget, "report", lambda parameters, *_: print(json.dumps(parameters.starts)))
    assert "imagenet" not in call(monkeypatch, capsys, tmp_path, "")
    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    assert "imagenet" in call(monkeypatch, capsys, tmp_path, f"--weights {weights}")
    with pytest.raises(SystemExit, match="Cannot read"):
        call(monkeypatch, capsys, tmp_path, f"--weights {tmp_path / 'absent.pth'}")


def test_the_hash_sees_every_parameter() -> None:
    first = Parameters(("random",), 1, (5,), 200, 300, 200, 10)
    assert first.hash() == Parameters(("random",), 1, (5,), 200, 300, 200, 10).hash()
    assert first.hash() != Parameters(("random",), 1, (5,), 200, 300, 201, 10).hash()


def test_cells_read_back_as_they_were(tmp_path: Path) -> None:
    cells = [BudgetCell("random", seed, 5, 10, 2, 0.5 + seed / 10, "abc") for seed in range(2)]
    assert read_cells(tmp_path / "cells.jsonl", "abc") == []
    write_cells(tmp_path / "cells.jsonl", cells)
    assert read_cells(tmp_path / "cells.jsonl", "abc") == cells


def test_the_picture_shows_every_cell_and_the_means() -> None:
    values = {
        ("random", 5): (0.5, 0.6),
        ("random", 100): (0.7, 0.8),
        ("simclr", 5): (0.6, 0.7),
        ("simclr", 100): (0.9, 0.8),
    }
    cells = [
        BudgetCell(start, seed, percent, 0, 0, auroc, "abc")
        for (start, percent), pair in values.items()
        for seed, auroc in enumerate(pair)
    ]
    figure = plot(cells, Parameters(("random", "simclr"), 2, (5, 100), 200, 300, 200, 10))
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 1][:4]  # the last is chance
    for start, dots, means in (("random", *lines[:2]), ("simclr", *lines[2:4])):
        assert sorted(dots.get_ydata()) == sorted(values[start, 5] + values[start, 100])
        assert np.allclose(means.get_ydata(), [np.mean(values[start, 5]), np.mean(values[start, 100])])
        assert {dots.get_color(), means.get_color()} == {STARTS[start].colour}
    assert "Generated images" in figure.axes[0].get_title(loc="left")


def test_no_two_starts_look_alike() -> None:
    looks = [(start.colour, start.marker) for start in STARTS.values()]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(looks)
