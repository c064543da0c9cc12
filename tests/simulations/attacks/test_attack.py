"""The attacks on one tiny simulation, with few and short searches."""

import json
from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError, DataError
from prostafed.common.privacy.attacks import ATTACKS
from prostafed.common.privacy.attacks.finding import Findings, read_findings
from prostafed.simulations.attacks import updates
from prostafed.simulations.attacks.attack import CARRIED_OUT, attack_run
from prostafed.simulations.attacks.federation import open_attacked
from prostafed.simulations.attacks.membership import CALIBRATED, ENCODER, FOREIGN, OWN

FEW = {"INVERTED": 2, "STEPS": 3, "LABELS": 4, "ROUNDS": 2, "MOST_CASES": 4, "CROP": (4, 6, 6)}


@pytest.fixture(scope="module")
def found(finished_run: Path) -> Findings:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FEW.items():
            patch.setattr(updates, name, value)
        return attack_run(finished_run)


def test_every_attack_there_is_can_be_carried_out() -> None:
    assert list(CARRIED_OUT) == list(ATTACKS)


def test_all_attacks_find_figures_with_intervals(found: Findings, finished_run: Path) -> None:
    assert found.generated
    assert found.left_out == {}
    assert {each.attack for each in found.findings} == set(ATTACKS)
    assert read_findings(finished_run / "attacks.json") == found
    assert "Membership in the training set" in (finished_run / "attacks.html").read_text()


def test_members_are_sought_at_each_site_and_over_all(found: Findings) -> None:
    auc = [each for each in found.of("membership") if each.measure == "AUC"]
    assert {(each.site, each.variant) for each in auc} == {
        (site, variant) for site in ("north", "south", "") for variant in (ENCODER, OWN, FOREIGN, CALIBRATED)
    }


def test_members_are_those_trained_on(finished_run: Path) -> None:
    attacked = open_attacked(finished_run)
    for site in attacked.sites:
        assert not set(site.members) & set(site.others)
        assert set(site.members) <= set(site.place.splits["train"])
        assert set(site.others) <= set(site.place.splits["test"])
    assert attacked.reference(attacked.sites[0]) is not None


def test_a_repeated_attack_finds_the_same(found: Findings, finished_run: Path) -> None:
    names = ("membership", "differencing", "histograms", "labels", "origin")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in FEW.items():
            patch.setattr(updates, name, value)
        again = attack_run(finished_run, only=names)
    assert again.findings == tuple(each for each in found.findings if each.attack in names)


def test_no_patient_is_in_what_is_written(found: Findings, finished_run: Path) -> None:
    written = (finished_run / "attacks.json").read_text() + (finished_run / "attacks.html").read_text()
    for site in open_attacked(finished_run).sites:
        for record in site.place.cases.records:
            assert record.case_id not in written
            assert record.patient_id not in written


def test_mistakes_are_sentences(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown attack 'membreship'; did you mean 'membership'"):
        attack_run(finished_run, only=["membreship"])
    with pytest.raises(DataError, match="not a run folder"):
        attack_run(tmp_path)


def test_a_run_of_a_coordinator_holds_no_cases(finished_run: Path, tmp_path: Path) -> None:
    study = json.loads((finished_run / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(ConfigurationError, match="not the run of a simulation"):
        attack_run(tmp_path)
