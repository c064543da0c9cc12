"""The arms beside the federation: who takes part, what several networks say together, whose labels are wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from prostafed.client.rounds.workplace import open_workplace
from prostafed.client.training import evaluate
from prostafed.common.errors import ConfigurationError
from prostafed.common.imaging.case_folder import open_case_folder
from prostafed.common.study import ARMS, Study, parse_study
from prostafed.common.study.split import split_patients
from prostafed.simulations.federation.faults import Fault
from prostafed.simulations.federation.federation_file import Federation
from prostafed.simulations.federation.hospitals import (
    Hospital,
    prepare_hospital,
    write_flipped_cases,
    write_site_folder,
)
from prostafed.simulations.run import ensembling as consensus
from prostafed.simulations.run.arms import plan_arms
from prostafed.simulations.run.ensembling import predict_together
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation


def vary(study: Study, **keys: object) -> Study:
    return parse_study(json.dumps({**json.loads(study.canonical()), **keys}))


@pytest.fixture(scope="session")
def hospitals(study: Study, federation: Federation, cache: Path) -> list[Hospital]:
    return [prepare_hospital(site, study, cache, lambda *_: None) for site in federation.site]


def test_every_arm_has_its_sites_and_a_quorum_it_can_reach(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    asked = vary(study, arms={"compare": list(ARMS)}, round={"quorum": 2})
    arms = {arm.run: arm for arm in plan_arms(asked, hospitals, tmp_path)}
    sites = {run: [file.parent.name for file in arm.site_files] for run, arm in arms.items()}
    assert sites == {
        "federated": ["north", "south"],
        "local-north": ["north"],
        "local-south": ["south"],
        "pooled": ["pooled"],
        "personal": ["north", "south"],
        "unseen-north": ["south"],
        "unseen-south": ["north"],
    }
    assert [arm.study.round.quorum for arm in arms.values()] == [2, 1, 1, 1, 2, 1, 1]
    assert [stage.aggregate for stage in arms["personal"].study.stage] == ["fedavg", "ditto"]
    assert arms["federated"].study == asked


def test_arms_of_fewer_sites_than_masks_need_add_up_the_same_numbers_unmasked(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    three = [*hospitals, replace(hospitals[0], name="west")]
    privacy = {"secure_aggregation": True, "threshold": 2}
    asked = vary(study, arms={"compare": ["local", "pooled", "unseen"]}, privacy=privacy, round={})
    arms = {arm.run: arm.study for arm in plan_arms(asked, three, tmp_path)}
    assert arms["federated"] == asked
    assert {each.round.compress for each in arms.values()} == {"fixed32"}
    assert [run for run, each in arms.items() if each.privacy.secure_aggregation] == ["federated"]
    assert arms["unseen-west"].privacy.threshold == 0
    with pytest.raises(ConfigurationError, match="secure_aggregation needs 3 sites, here are 2"):
        plan_arms(asked, hospitals, tmp_path / "two")


def test_faults_that_spoil_floats_are_refused_where_whole_numbers_travel(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    spoilt = [replace(hospitals[0], faults=(Fault(kind="nan"),)), *hospitals[1:]]
    with pytest.raises(ConfigurationError, match="The faults nan spoil floats"):
        plan_arms(vary(study, round={"compress": "fixed32"}), spoilt, tmp_path)


def test_an_arm_whose_sites_cannot_run_it_says_why(study: Study, hospitals: list[Hospital], tmp_path: Path) -> None:
    three = [*hospitals, replace(hospitals[0], name="west")]
    krum = {**json.loads(study.canonical())["stage"][1], "aggregate": "krum", "aggregate_parameters": {"byzantine": 0}}
    asked = vary(study, arms={"compare": list(ARMS)}, stage=[krum])
    arms = {arm.run: arm for arm in plan_arms(asked, three, tmp_path)}
    obstacles = {run: arm.obstacle for run, arm in arms.items() if arm.obstacle}
    assert set(obstacles) == {"unseen-north", "unseen-south", "unseen-west"}
    assert set(obstacles.values()) == {
        "Stage 1: krum needs 3 sites, here are 2. Add sites, or choose another aggregator."
    }
    rules = {run: arm.study.stage[0].aggregate for run, arm in arms.items() if not arm.obstacle}
    assert rules == {
        "federated": "krum",
        "local-north": "fedavg",  # of one site there is nothing to choose from
        "local-south": "fedavg",
        "local-west": "fedavg",
        "pooled": "fedavg",
        "personal": "ditto",
    }
    with pytest.raises(ConfigurationError, match=r"federation cannot run this study\. Stage 1: krum needs 3 sites"):
        plan_arms(asked, hospitals, tmp_path)


def unlabel(hospital: Hospital) -> Hospital:
    records = tuple(replace(record, cspca=None, isup=None, masks=()) for record in hospital.cases.records)
    return replace(hospital, cases=replace(hospital.cases, records=records))


def test_a_hospital_without_labels_does_not_learn_alone(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    north, south = hospitals[0], unlabel(hospitals[1])
    arms = plan_arms(vary(study, arms={"compare": list(ARMS)}), [north, south], tmp_path)
    why = "Stage 2: none of the training cases of south has what the task lesion learns from."
    assert {arm.run: arm.obstacle for arm in arms if arm.obstacle} == {
        "local-south": why,
        "unseen-north": why,
        "unseen-south": "None of the test cases of south has what the task lesion is judged by.",
    }
    with pytest.raises(ConfigurationError, match="training cases of north, south"):
        plan_arms(study, [unlabel(north), south], tmp_path)


def test_an_ensemble_needs_what_the_hospitals_learn_alone(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    arms = plan_arms(vary(study, arms={"compare": ["ensemble"]}), hospitals, tmp_path)
    assert [arm.run for arm in arms] == ["federated", "local-north", "local-south"]


class Saying(nn.ModuleDict):
    """A network that says one thing of every voxel."""

    def __init__(self, said: float) -> None:
        super().__init__()
        self.said = said


def test_several_networks_say_the_mean_of_what_each_says(
    study: Study, hospitals: list[Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workplace = open_workplace(write_site_folder(tmp_path / "north", hospitals[0]), study.canonical())

    def say(network: Saying, task: object, images: Tensor, window: object) -> Tensor:
        return images[:, :1] * 0 + np.log(network.said / (1 - network.said))

    monkeypatch.setattr(evaluate, "_logits", say)
    means = {}
    for name, said in (("low", [0.2]), ("high", [0.6]), ("both", [0.2, 0.6])):
        found = predict_together(study, [Saying(each) for each in said], workplace)
        means[name] = {case.score for case in found}
        assert len(found) == len(workplace.splits["test"])
    assert max(means["both"]) == pytest.approx((max(means["low"]) + max(means["high"])) / 2, abs=1e-6)


def test_both_arms_of_several_networks_are_in_the_results(
    study: Study, federation: Federation, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = vary(study, arms={"compare": ["ensemble", "unseen"]})
    simulation = Simulation(asked, federation, tmp_path / "run", cache)
    run_simulation(simulation, resume=False, watchers=Watchers())
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    cases = {
        arm: {(line["site"], line["case_id"]) for line in lines if line["arm"] == arm}
        for arm in ("federated", "ensemble", "unseen")
    }
    assert cases["ensemble"] == cases["unseen"] == cases["federated"]
    metrics = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    tested = {row.partition(",")[0] for row in metrics if ",test," in row}
    assert tested == {"federated", "local", "ensemble", "unseen"}

    def again(*arguments: object) -> None:
        raise AssertionError("what is there is not made again")

    monkeypatch.setattr(consensus, "predict_together", again)
    run_simulation(simulation, resume=True, watchers=Watchers())


def test_wrong_labels_are_those_of_the_training_patients_alone(
    study: Study, hospitals: list[Hospital], tmp_path: Path
) -> None:
    hospital = hospitals[0]
    (tmp_path / "north").mkdir()
    write_flipped_cases(tmp_path / "north", hospital, study)
    workplace = open_workplace(tmp_path / "north" / "site.toml", study.canonical())
    true = {record.case_id: record for record in hospital.cases.records}
    splits = split_patients(study, hospital.cases.records)
    training = {hospital.cases.records[index].case_id for index in splits["train"]}
    found = open_case_folder(tmp_path / "north" / "cases").records
    assert {record.case_id for record in found} == set(true)
    for record in found:
        assert (record.cspca != true[record.case_id].cspca) == (record.case_id in training)
    assert {workplace.cases.records[index].case_id for index in workplace.splits["train"]} == training
