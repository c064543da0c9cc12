"""A method is added by one file and one table line: the rest of the tree does not know its name."""

from pathlib import Path

import pytest

from prostafed.common.errors import ConfigurationError
from prostafed.common.shell.configuration import parse
from prostafed.common.ssl import METHODS, MethodEntry, build_method
from prostafed.common.study import Study
from prostafed.server.records.read import read_run
from prostafed.simulations.federation.federation_file import Federation, PhantomSite
from prostafed.simulations.run.simulation import Simulation, Watchers, run_simulation
from tests.entries.twelfth import TwelfthParameters

ENTRY = MethodEntry("tests.entries.twelfth", TwelfthParameters, ("encoder", "projection"))


@pytest.fixture(autouse=True)
def twelfth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "twelfth", ENTRY)


def name_method(**stage: object) -> Study:
    pretrain = {"kind": "pretrain", "method": "twelfth", "rounds": 1, "batch_size": 4, **stage}
    return parse({"name": "tiny", "stage": [pretrain]}, Study, "study")


def test_a_study_names_it_and_its_parameters() -> None:
    stage = name_method(parameters={"weight": 0.5}).stage[0]
    assert stage.method_parameters() == TwelfthParameters(weight=0.5)
    assert stage.share == ("encoder", "projection")
    with pytest.raises(ConfigurationError, match="weight must be at least 0, found -1"):
        name_method(parameters={"weight": -1.0})


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            MethodEntry("tests.entries.absent", TwelfthParameters, ("encoder",)),
            "module tests.entries.absent with build",
        ),
        (MethodEntry("tests.entries", TwelfthParameters, ("encoder",)), "needs a module tests.entries with build"),
        (
            MethodEntry("tests.entries.twelfth", TwelfthParameters, ("encoder", "predictor")),
            "shares predictor, and its heads are projection",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(entry: MethodEntry, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "twelfth", entry)
    with pytest.raises(ConfigurationError, match=said):
        build_method("twelfth", TwelfthParameters())


def test_it_pretrains_a_federation(tmp_path: Path) -> None:
    values = {
        "name": "tiny",
        "data": {"size": [8, 16, 16], "spacing_mm": [6.0, 4.0, 4.0], "validation_fraction": 0.0},
        "model": {"width": 4, "resolutions": 2},
        "stage": [
            {"kind": "pretrain", "method": "twelfth", "rounds": 1, "batch_size": 4},
            {"kind": "finetune", "task": "pirads", "rounds": 1, "batch_size": 4},
        ],
    }
    sites = tuple(PhantomSite(source="phantom", name=name, cases=6) for name in ("north", "south"))
    simulation = Simulation(parse(values, Study, "study"), Federation(site=sites), tmp_path / "run", tmp_path / "cache")
    run_simulation(simulation, resume=False, watchers=Watchers())
    losses = {line.site: line.value for line in read_run(tmp_path / "run").metrics if line.metric == "loss"}
    assert losses.keys() == {"north", "south"}
    assert "twelfth" in (tmp_path / "run" / "report.html").read_text()
