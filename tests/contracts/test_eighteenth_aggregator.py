"""An aggregator is one file and one line: added here, it keeps the contract and goes through a federation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.errors import ConfigurationError, ProstafedError
from prostafed.common.study import Study, parse_study
from prostafed.server.aggregation import build_aggregator
from prostafed.server.export import export_run
from prostafed.server.records.read import read_run
from prostafed.server.report import write_report
from prostafed.simulations.run.engine.local import run_local
from tests.contracts.test_aggregators import AggregatorContract
from tests.entries.eighteenth import ENTRY
from tests.integration.conftest import TinyFederation, tiny_federation
from tests.server.aggregation.one_round import build, run_round, sent, update

__all__ = ["tiny_federation"]
NAME = "tempered"


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATORS, NAME, ENTRY)


@pytest.mark.parametrize("name", [NAME])
class TestTheEighteenth(AggregatorContract):
    """The contract of the table's own."""


def test_it_weights_by_the_root_of_the_cases() -> None:
    replies = [update([1.0], cases=1, site="a"), update([4.0], cases=4, site="b")]
    assert run_round(build(NAME), sent([0.0]), replies).tensors["w"].tolist() == [3.0]  # (1 + 2 x 4) / 3
    assert run_round(build(NAME, power=0.0), sent([0.0]), replies).tensors["w"].tolist() == [2.5]


def with_stage(study: Study, **keys: object) -> Study:
    stage = {"kind": "finetune", "task": "classify", "rounds": 1, "batch_size": 4, "aggregate": NAME, **keys}
    values = json.loads(study.canonical())
    return parse_study(
        json.dumps({**{name: values[name] for name in ("name", "seed", "data", "model")}, "stage": [stage]})
    )


def test_a_study_runs_with_it_and_is_reported_and_exported(tiny_federation: TinyFederation, tmp_path: Path) -> None:
    study = with_stage(tiny_federation.study, aggregate_parameters={"power": 0.25}, share=["encoder", "heads"])
    run = tmp_path / "run"
    run_local(study, "run", run, tiny_federation.write_sites(tmp_path / "sites"))
    (line,) = read_run(run).rounds
    assert (line.aggregate, line.aggregated, len(line.replies)) == (NAME, True, 2)
    assert all(np.isfinite(array).all() for array in load_file(run / "model.safetensors").values())
    assert NAME in write_report(run).read_text()
    exported = export_run(run, min_confidence=0.25)
    assert exported["study_hash"] == study.hash()
    assert Path(exported["bundle"]).is_dir()


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"aggregate": "temperd"}, "unknown aggregator 'temperd'; did you mean 'tempered'?"),
        ({"aggregate_parameters": {"pover": 1.0}}, "unknown key 'pover'; did you mean 'power'?"),
    ],
)
def test_a_mistake_in_a_study_names_the_nearest(
    tiny_federation: TinyFederation, keys: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as mistake:
        with_stage(tiny_federation.study, **keys)
    assert sentence in str(mistake.value)


@pytest.mark.parametrize("key", ["participants", "close_after"])
def test_replies_that_no_round_takes_are_refused(
    tiny_federation: TinyFederation, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setitem(AGGREGATORS, NAME, replace(ENTRY, fewest_sites=lambda parameters: 9))
    values = json.loads(with_stage(tiny_federation.study).canonical())
    with pytest.raises(ConfigurationError, match="tempered needs 9 replies, and a round takes 8 at most"):
        parse_study(json.dumps({**values, "round": {key: 8}}))
    parse_study(json.dumps({**values, "round": {key: 9}}))


@pytest.mark.parametrize(
    ("module", "found"),
    [("tests.entries", "has no attribute 'build'"), ("tests.entries.nineteenth", "No module named")],
)
def test_a_module_that_builds_none_is_refused_before_the_first_round(
    tiny_federation: TinyFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, found: str
) -> None:
    monkeypatch.setitem(AGGREGATORS, NAME, replace(ENTRY, module=module))
    study = with_stage(tiny_federation.study)
    sentence = rf"'tempered' needs build\(name, parameters\) in the module {module}, found: .*{found}"
    with pytest.raises(ConfigurationError, match=sentence):
        build_aggregator(NAME, ENTRY.parameters())
    with pytest.raises(ProstafedError, match=sentence):
        run_local(study, "run", tmp_path / "run", tiny_federation.write_sites(tmp_path / "sites"))
    assert not (tmp_path / "run" / "rounds.jsonl").exists()
