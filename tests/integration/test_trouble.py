"""Trouble in a real federation in one process: what goes wrong at a site is that site's, and is in the record."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from prostafed.client.rounds import answer
from prostafed.client.rounds.job import Job
from prostafed.common.errors import DataError
from prostafed.common.exchange.messages import Reply
from prostafed.common.study import Study, parse_study
from prostafed.server.records.read import list_missing, read_evaluations, read_rounds
from prostafed.simulations.federation.faults import Fault
from prostafed.simulations.run.engine.local import run_local
from tests.server.records.ledger_lines import read_ledger

from .conftest import TinyFederation


def with_rounds(study: Study, rounds: int, **keys: object) -> Study:
    """The tiny study's pretraining stage alone, for so many rounds."""
    values = json.loads(study.canonical())
    stage = {**values["stage"][0], "rounds": rounds}
    return parse_study(json.dumps({**values, "stage": [stage], "round": {**values["round"], "quorum": 1, **keys}}))


def run(
    federation: TinyFederation, folder: Path, study: Study, faults: Mapping[str, Sequence[Fault]] | None = None
) -> list[dict[str, object]]:
    run_local(study, "run", folder / "run", federation.write_sites(folder / "sites"), faults=faults)
    return read_rounds(folder / "run")


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="dropout"), "NODE_LOST"),
        (Fault(kind="crash"), "SITE_CRASHED"),
        (Fault(kind="nan"), "NOT_FINITE"),
        (Fault(kind="wrong_shape"), "WRONG_TENSORS"),
    ],
)
def test_a_site_in_trouble_is_left_out_and_the_run_goes_on(
    tiny_federation: TinyFederation, tmp_path: Path, fault: Fault, code: str
) -> None:
    study = with_rounds(tiny_federation.study, 2, report_after=2)
    records = run(tiny_federation, tmp_path, study, {"south": [fault]})
    assert [list(row.replies) for row in records] == [["north"], ["north"]]
    assert [row.rejections[0]["code"] for row in records] == [code, code]
    assert [list(row.reported) for row in records] == [[], ["south"]]
    alone = tiny_federation.write_sites(tmp_path / "alone" / "sites")[:1]
    run_local(study, "run", tmp_path / "alone" / "run", alone)
    expected = load_file(tmp_path / "alone" / "run" / "model.safetensors")
    for name, array in load_file(tmp_path / "run" / "model.safetensors").items():
        np.testing.assert_array_equal(array, expected[name], err_msg="one site left is that site's training")


def test_a_scaled_update_is_too_far_once_it_is_known_what_is_usual(
    tiny_federation: TinyFederation, tmp_path: Path
) -> None:
    faults = {"south": [Fault(kind="scaled", factor=1000.0, first_round=4)]}
    records = run(tiny_federation, tmp_path, with_rounds(tiny_federation.study, 4), faults)
    codes = [[entry["code"] for entry in row.rejections] for row in records]
    assert codes == [[], [], [], ["TOO_FAR"]]


def test_a_site_that_joins_late_gets_the_current_model_and_one_that_leaves_is_remembered(
    tiny_federation: TinyFederation, tmp_path: Path
) -> None:
    faults = {"south": [Fault(kind="absent", last_round=1), Fault(kind="absent", first_round=3)]}
    records = run(tiny_federation, tmp_path, with_rounds(tiny_federation.study, 2), faults)
    assert [list(row.participants) for row in records] == [["north"], ["north", "south"]]
    assert all(not row.rejections for row in records)
    events = [(line.event, line.site, line.round) for line in read_ledger(tmp_path / "run")[1:]]
    assert ("joined", "south", 2) in events

    leaving = {"south": [Fault(kind="absent", first_round=2)]}
    records = run(tiny_federation, tmp_path / "leaving", with_rounds(tiny_federation.study, 2), leaving)
    assert [list(row.participants) for row in records] == [["north", "south"], ["north"]]
    events = [(line.event, line.site) for line in read_ledger(tmp_path / "leaving" / "run")]
    assert ("left", "south") in events


def test_a_straggler_is_late_and_its_answer_is_put_aside(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    study = with_rounds(tiny_federation.study, 3, deadline_s=5.0)
    faults = {"south": [Fault(kind="straggler", delay_s=5.2, last_round=1)]}
    first, *rest = run(tiny_federation, tmp_path, study, faults)
    assert [entry["code"] for entry in first.rejections] == ["DEADLINE"]
    late = [(entry["site"], entry["round"]) for row in rest for entry in row.late]
    assert late == [("south", "1")], "it came within the next two rounds, and once"
    assert all(list(row.replies) == ["north", "south"] for row in rest)


def test_the_same_trouble_gives_the_same_run_again(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    faults = {"south": [Fault(kind="dropout", probability=0.5)]}
    study = with_rounds(tiny_federation.study, 4)
    lost = []
    for attempt in ("first", "again"):
        records = run(tiny_federation, tmp_path / attempt, study, faults)
        lost.append([[entry["site"] for entry in row.rejections] for row in records])
    assert lost[0] == lost[1]
    assert 0 < sum(map(bool, lost[0])) < 4, "all or none dropped out: choose another seed"
    first, again = (load_file(tmp_path / name / "run" / "model.safetensors") for name in ("first", "again"))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_a_site_that_fails_the_last_evaluation_is_asked_again_and_by_a_resumed_run(
    tiny_federation: TinyFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, evaluate = 3, answer._evaluate

    def failing(job: Job) -> Reply:
        nonlocal failures
        if job.workplace.site.name == "south" and failures:
            failures -= 1
            raise DataError("out of memory")
        return evaluate(job)

    monkeypatch.setattr(answer, "_evaluate", failing)
    values = json.loads(tiny_federation.study.canonical())
    study = parse_study(json.dumps({**values, "round": {"quorum": 1, "retries": 1}}))
    sites = tiny_federation.write_sites(tmp_path / "sites")
    for missing in ({"south"}, set()):  # asked twice in vain; resumed, once in vain and once not
        run_local(study, "run", tmp_path / "run", sites)
        lines = read_evaluations(tmp_path / "run")
        assert {site for _, _, site in list_missing(lines)} == missing
        assert len(read_rounds(tmp_path / "run")) == 2, "no round is trained again"
    assert [list(line.participants) for line in lines] == [["north", "south"], ["south"], ["south"], ["south"]]
    monkeypatch.undo()
    run_local(study, "run", tmp_path / "quiet" / "run", tiny_federation.write_sites(tmp_path / "quiet" / "sites"))
    for name in ("metrics.csv", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "quiet" / "run" / name).read_bytes()
