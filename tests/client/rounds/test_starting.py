"""What a round starts from: what was sent, and over it what the site kept of its own."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.client.rounds import answer as work
from prostafed.client.rounds.job import open_job
from prostafed.client.rounds.memory import recall, stage_folder
from prostafed.client.rounds.starting import begin_round, load_network
from prostafed.common.errors import CheckpointError
from prostafed.common.exchange.messages import Request
from prostafed.common.study import Study
from prostafed.common.study.network import build_stage_network, shared_names
from prostafed.common.tensors import Tensors, group_of, read_tensors
from tests.client.tiny_site import BYOL, FINETUNE, ask, initial, make_study, open_site

STEM = "encoder.stages.0."
NORM = "encoder.stages.0.conv.unit0.adn.N.weight"
LOCAL_BYOL = {**BYOL, "share": []}


def shifted(tensors: Tensors) -> Tensors:
    """What other sites made of it."""
    return {name: array + 1 for name, array in tensors.items()}


@pytest.mark.parametrize("part", ["norm", "stem"])
def test_a_local_part_stays_at_the_site_whatever_is_sent(part: str, tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "local": [part]})
    place = open_site(tmp_path, study)
    network = build_stage_network(study, 1)
    local = {name for name in initial(study) if name not in shared_names(network, study.stage[0])}
    assert local
    assert (NORM in local) == (part == "norm") or all(name.startswith(STEM) for name in local)
    reply = work.answer(place, ask(study))
    assert set(reply.tensors) == set(initial(study)) - local
    kept = recall(stage_folder(place.site.memory, "run", 1), 1, study.hash())
    assert kept is not None
    start = read_tensors(begin_round(open_job(place, ask(study, 2, shifted(initial(study))))).network)
    for name, array in initial(study).items():
        assert np.array_equal(start[name], kept.tensors[name] if name in local else array + 1), name
    assert any(not np.array_equal(kept.tensors[name], initial(study)[name]) for name in local), "it learns"


def test_with_share_nothing_nothing_leaves_and_the_next_stage_starts_from_the_sites_own_encoder(tmp_path: Path) -> None:
    study = make_study(LOCAL_BYOL, FINETUNE)
    place = open_site(tmp_path, study)
    for number in (1, 2, 3):
        assert not work.answer(place, ask(study, number)).tensors
    own = recall(stage_folder(place.site.memory, "run", 1), 3, study.hash())
    assert own is not None
    network = read_tensors(begin_round(open_job(place, ask(study, 1, stage=2))).network)
    for name in initial(study, 2):
        assert np.array_equal(network[name], own.tensors[name])
    assert not all(np.array_equal(own.tensors[name], array) for name, array in initial(study).items())
    work.answer(place, ask(study, 1, stage=2))
    later = read_tensors(begin_round(open_job(place, ask(study, 2, shifted(initial(study, 2)), stage=2))).network)
    assert all(np.array_equal(later[name], array + 1) for name, array in initial(study, 2).items()), "from then on"


def test_local_norms_of_the_stage_before_are_the_first_of_the_next(tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "local": ["norm"]}, FINETUNE)
    place = open_site(tmp_path, study)
    work.answer(place, ask(study))
    own = recall(stage_folder(place.site.memory, "run", 1), 1, study.hash())
    assert own is not None
    network = read_tensors(begin_round(open_job(place, ask(study, 1, stage=2))).network)
    for name, array in initial(study, 2).items():
        assert np.array_equal(network[name], own.tensors.get(name, array))
    heads = [name for name in network if group_of(name) == "head"]
    assert not all(np.array_equal(network[name], own.tensors[name]) for name in heads), "heads belong to their stage"


def test_an_evaluation_takes_what_travels_from_the_server(tmp_path: Path) -> None:
    """Also at a site that has an encoder of its own from the stage before, but has not trained in this one."""
    study = make_study(LOCAL_BYOL, FINETUNE)
    place = open_site(tmp_path, study)
    work.answer(place, ask(study))
    sent = shifted(initial(study, 2))
    network = read_tensors(load_network(open_job(place, ask(study, 1, sent, stage=2)), 1))
    assert all(np.array_equal(network[name], array) for name, array in sent.items())


def test_a_stage_without_sharing_is_evaluated_with_the_sites_own_network(tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "share": []})
    place = open_site(tmp_path, study)
    assert not work.answer(place, ask(study)).tensors
    kept = recall(stage_folder(place.site.memory, "run", 1), 1, study.hash())
    assert kept is not None
    network = read_tensors(load_network(open_job(place, ask(study, 1, shifted(initial(study)))), 1))
    assert all(np.array_equal(network[name], array) for name, array in kept.tensors.items())
    assert kept.tensors.keys() == network.keys()


@pytest.mark.parametrize("method", ["byol", "moco"])
@pytest.mark.parametrize("number", [1, 3])
def test_targets_of_a_site_that_is_new_start_equal_to_what_it_received(
    method: str, number: int, tmp_path: Path
) -> None:
    study = make_study({**BYOL, "method": method})
    sent = shifted(initial(study))
    job = open_job(open_site(tmp_path, study), ask(study, number, sent))
    for network in (begin_round(job).network, load_network(job, number)):  # to train, to evaluate
        targets = {name: array for name, array in read_tensors(network).items() if name.startswith("target_")}
        assert targets.keys() == {f"target_{name}" for name in sent}
        assert all(np.array_equal(array, sent[name.removeprefix("target_")]) for name, array in targets.items())


@pytest.fixture
def study() -> Study:
    return make_study(FINETUNE)


@pytest.mark.parametrize("name", ["control.head.weight", "control.foo", "control.encoder.absent"])
def test_control_variates_of_what_is_not_shared_are_refused(name: str, tmp_path: Path) -> None:
    study = make_study({**FINETUNE, "aggregate": "scaffold", "optimiser": "sgd"})
    request = ask(study, 1, {**initial(study), name: np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError, match=f"brings {name}, float32 .*, which does not fit the study"):
        begin_round(open_job(open_site(tmp_path, study), request))


def test_half_a_group_or_a_stranger_is_refused(study: Study, tmp_path: Path) -> None:
    place, sent = open_site(tmp_path, study), initial(study)
    name = next(iter(sent))
    for tensors in (
        {key: sent[key] for key in sent if key != name},
        {**sent, "decoder.weight": np.zeros(1, np.float32)},
    ):
        with pytest.raises(CheckpointError):
            begin_round(open_job(place, Request("train", "run", study.hash(), 1, 1, tensors)))
