"""Whole simulations with noise: they come out the same again to the last bit, and their ledgers say what they cost."""

import math
from pathlib import Path
from typing import Any

import pytest

from prostafed.client.gate.ledger import read_ledger, sum_up
from prostafed.simulations import simulate

SITES = "".join(f'[[site]]\nname = "{name}"\nsource = "phantom"\ncases = 8\n' for name in ("east", "north", "south"))
PRIVACY: dict[str, dict[str, Any]] = {
    "patient": {"unit": "patient", "epsilon": 8.0, "delta": 1e-3},
    "site": {"unit": "site", "noise": 2.0, "clip": 0.01, "delta": 1e-2},
    "patient, masked": {"unit": "patient", "noise": 2.0, "delta": 1e-3, "secure_aggregation": True},
}


@pytest.mark.parametrize("name", PRIVACY)
def test_it_comes_out_the_same_again(name: str, cache: Path, tmp_path: Path) -> None:
    privacy = PRIVACY[name]
    study = {
        "name": "tiny",
        "data": {"size": [8, 24, 24], "spacing_mm": [6.0, 3.0, 3.0], "test_fraction": 0.3},
        "model": {"width": 4, "resolutions": 2},
        "stage": [{"kind": "finetune", "task": "classify", "rounds": 2, "epochs": 1, "batch_size": 4}],
        "privacy": privacy,
    }
    runs = [simulate(study, SITES, tmp_path / each, cache=cache) for each in ("run", "again")]
    assert runs[0].model.read_bytes() == runs[1].model.read_bytes()
    assert [row["value"] for row in runs[0].results] == [row["value"] for row in runs[1].results]
    sites = sorted((runs[0].folder / "arms" / "federated" / "sites").iterdir())
    assert [site.name for site in sites] == ["east", "north", "south"]
    for site in sites:
        begun = [line for line in read_ledger(site) if line["event"] == "begins"]
        assert [line["round"] for line in begun] == [1, 2]
        assert begun[0]["plans"]["shared"]["unit"] == privacy["unit"]
        dearest = sum_up(site, privacy["delta"])[0].epsilon
        assert 0 < dearest < math.inf
        if "epsilon" in privacy:
            assert 0.9 * privacy["epsilon"] < dearest <= privacy["epsilon"], "the noise is solved for"
