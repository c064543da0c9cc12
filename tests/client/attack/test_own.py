"""A hospital attacks a bundle with its own patients."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from prostafed.client.attack.losses import measure_losses, negate
from prostafed.client.attack.own import FOLDER, attack_bundle
from prostafed.client.cli import app
from prostafed.client.training.feed import Feed
from prostafed.client.training.loop import optimise
from prostafed.client.training.objective import finetuning
from prostafed.client.training.optimisers import Optimisation
from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import CasesInMemory, Grid
from prostafed.common.privacy.attacks.finding import read_findings
from prostafed.common.privacy.attacks.membership import judge_scores
from prostafed.common.tasks import build_task
from prostafed.simulations import simulate
from prostafed.simulations.experiments.label_curve import make_cases, make_network
from prostafed.simulations.run.export import export_simulation

GRID = Grid((6.0, 3.0, 3.0), (8, 24, 24))
STUDY = """
name = "own"
data = { size = [8, 24, 24], spacing_mm = [6.0, 3.0, 3.0], validation_fraction = 0.2, test_fraction = 0.4 }
model = { width = 4, resolutions = 3 }
[[stage]]
kind = "finetune"
task = "classify"
rounds = 1
[arms]
compare = []
"""
FEDERATION = "\n".join(f'[[site]]\nname = "{name}"\nsource = "phantom"\ncases = 10' for name in ("north", "south"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    simulate(STUDY, FEDERATION, folder / "run", cache=folder / "cache")
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    return Path(export_simulation(run, "north")["bundle"])


def site_file(run: Path, name: str = "north") -> Path:
    return run / "arms/federated/sites" / name / "site.toml"


def test_figures_stay_beside_the_site_file(run: Path, bundle: Path) -> None:
    found = attack_bundle(site_file(run), bundle, seed=0)
    auc = found.findings[0]
    assert (auc.attack, auc.site, auc.measure, auc.of) == ("membership", "north", "AUC", "4 members, 4 others")
    assert set(found.left_out) == {"differencing", "histograms", "inversion", "labels", "origin"}
    assert read_findings(site_file(run).parent / FOLDER / f"{found.study_hash}.json") == found


def test_the_command_prints_what_is_kept(run: Path, bundle: Path) -> None:
    called = CliRunner().invoke(app, ["attack", str(bundle), "--site", str(site_file(run)), "--json"])
    assert called.exit_code == 0
    assert json.loads(called.stdout)["findings"][0]["measure"] == "AUC"
    said = CliRunner().invoke(app, ["attack", str(bundle), "--site", str(site_file(run))]).stdout
    assert "AUC: " in said
    assert "chance 0.50 (4 members, 4 others)" in said


def test_a_site_that_took_no_part_is_told_so(run: Path, bundle: Path, tmp_path: Path) -> None:
    text = site_file(run).read_text()
    (tmp_path / "site.toml").write_text(text)  # with a memory of its own, which is empty
    with pytest.raises(DataError, match="this site trained nobody for it"):
        attack_bundle(tmp_path / "site.toml", bundle, seed=0)


def test_losses_are_those_of_the_task_by_case() -> None:
    pool, task = make_cases(0, 6, GRID), build_task("classify")
    network = make_network(task.heads, 0, GRID)
    feed = Feed(pool, range(6), GRID, torch.device("cpu"))
    losses = measure_losses(network, task, feed)
    assert [patient for patient, _ in losses] == [record.patient_id for record in pool.records]
    assert not network.training
    for index, (_, loss) in enumerate(losses):
        batch = feed.load([index], masks=True)
        with torch.no_grad():
            expected = task.loss(task.outputs(network, batch.images), task.targets(batch.records, batch.masks.float()))
        assert loss == pytest.approx(expected.item(), rel=1e-4)
    assert [-score for _, score in negate(losses)] == [loss for _, loss in losses]


def test_a_network_that_remembers_is_found_out() -> None:
    """Labels by lot: what is learnt of them can only be remembered."""
    pool, task = make_cases(1, 24, GRID), build_task("classify")
    coins = np.random.default_rng(0).random(24) < 0.5
    records = tuple(
        replace(record, cspca=bool(coin), patient_id=str(number))
        for number, (record, coin) in enumerate(zip(pool.records, coins, strict=True))
    )
    pool = CasesInMemory(records, pool.arrays)
    network = make_network(task.heads, 0, GRID)
    trained, others = (Feed(pool, side, GRID, torch.device("cpu")) for side in (range(12), range(12, 24)))
    optimise(network, finetuning(task), trained, Optimisation(40, 4, 3e-3, 0, 1))
    scores = [negate(measure_losses(network, task, side)) for side in (trained, others)]
    auc = judge_scores("loss", "north", scores[0], scores[1], 0)[0]
    assert auc.verdict == "above chance", auc
