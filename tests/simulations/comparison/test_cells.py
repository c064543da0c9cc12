"""Variants of a study: every combination, each its own study, mistakes named before anything runs."""

from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.study import Finetune, parse_study
from prostafed.simulations.comparison.cells import read_grid, vary
from prostafed.simulations.comparison.runs import summarise

STUDY = parse_study(
    """{"name": "varied", "seed": 4, "stage": [{"kind": "pretrain", "rounds": 1},
        {"kind": "finetune", "task": "classify", "rounds": 2}]}"""
)


def test_every_combination_with_every_seed() -> None:
    cells = vary(STUDY, {"stage.2.learning_rate": [0.1, 0.2], "stage.1.method": ["simclr", "byol"]}, seeds=2)
    assert len(cells) == len({cell.name for cell in cells}) == len({cell.study.hash() for cell in cells}) == 8
    assert [cell.study.seed for cell in cells[:2]] == [4, 5]
    last = cells[-1].study
    assert (last.stage[0].method, last.stage[1].learning_rate, last.seed) == ("byol", 0.2, 5)
    assert cells[0].name.startswith("learning_rate=0.1-method=simclr-seed=4-")


def test_starts_and_labels_are_short_for_changes_in_every_stage() -> None:
    random, local, federated = (cell.study for cell in vary(STUDY, {"start": ["random", "local-ssl", "federated-ssl"]}))
    assert [stage.kind for stage in random.stage] == ["finetune"]
    assert local.stage[0].share == ()
    assert federated.stage == STUDY.stage
    (few,) = (cell.study for cell in vary(STUDY, {"labels": [0.05]}))
    assert isinstance(few.stage[1], Finetune)
    assert few.stage[1].labels == 0.05


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"stage.3.rounds": [1]}, "there is no 3"),
        ({"stages.1.rounds": [1]}, "there is no stages"),
        ({"stage.rounds": [1]}, "Stages are named by number: stage.1.rounds"),
        ({"stage.1.roundz": [1]}, "did you mean 'rounds'"),
        ({"stage.1.rounds": ["two"]}, "stage.1.rounds"),
        ({"start": ["imagenet"]}, "expected one of random, local-ssl, federated-ssl"),
    ],
)
def test_a_mistake_is_named(choices: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        vary(STUDY, choices)


def test_a_sweep_file_names_its_files_relative_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('study = "s.toml"\nfederation = "f.toml"\nseeds = 2\n[grid]\n"stage.1.rounds" = [1, 2]\n')
    grid = read_grid(path)
    assert (grid.study, grid.federation, grid.seeds) == (tmp_path / "s.toml", tmp_path / "f.toml", 2)
    assert dict(grid.grid) == {"stage.1.rounds": (1, 2)}


def test_a_summary_is_over_seeds_and_nothing_else() -> None:
    row = {"labels": 0.1, "arm": "local", "scope": "site", "site": "north", "low": None, "high": None}
    rows = [{**row, "seed": seed, "value": value} for seed, value in ((1, 0.5), (2, 0.7), (3, None))]
    rows.append({**row, "seed": 1, "arm": "federated", "value": 0.9})
    summary = summarise(rows)
    assert [(each["arm"], each["seeds"], each["least"], each["greatest"]) for each in summary] == [
        ("local", 2, 0.5, 0.7),
        ("federated", 1, 0.9, 0.9),
    ]
    assert summary[0]["mean"] == pytest.approx(0.6)
    worst = [{**row, "scope": "worst", "site": site, "seed": 1, "value": 0.4} for site in ("north", "south")]
    assert [(each["site"], each["seeds"]) for each in summarise(worst)] == [("", 2)]
