"""A simulation from Python: what may be given, what comes back, and that called again it is the same run."""

import json
from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError, ConfigurationError, DataError
from prostafed.common.study import Study
from prostafed.simulations import Run, open_run, simulate
from prostafed.simulations.federation.federation_file import Federation

TEXT = """name = "tiny"
data = { size = [8, 24, 24], spacing_mm = [6.0, 3.0, 3.0], test_fraction = 0.3 }
model = { width = 4, resolutions = 3 }
stage = [{ kind = "finetune", task = "classify", rounds = 1 }]
"""
SITES = '[[site]]\nname = "north"\nsource = "phantom"\ncases = 10\n'


@pytest.fixture(scope="module")
def made(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return simulate(TEXT, SITES, tmp_path_factory.mktemp("python") / "run", cache=cache)


def test_it_returns_the_run_with_results_model_and_report(made: Run) -> None:
    assert json.loads((made.folder / "run.json").read_text())["state"] == "finished"
    assert {"arm", "site", "metric", "value", "low", "high", "patients"} <= set(made.results[0])
    assert {row["site"] for row in made.results} == {"north"}
    assert made.model.name == "model.safetensors"
    assert made.model.is_file()
    assert made.report.read_text().startswith("<!DOCTYPE html>")
    assert open_run(str(made.folder)).results == made.results


def test_a_path_a_text_a_table_and_a_record_are_the_same_run(made: Run, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(TEXT)
    (tmp_path / "federation.toml").write_text(SITES)
    model, rounds = made.model.read_bytes(), (made.folder / "rounds.jsonl").read_bytes()
    table = {"site": [{"name": "north", "source": "phantom", "cases": 10}]}
    described = json.loads((made.folder / "study.json").read_text())["study"]
    for study, federation in (
        (tmp_path / "study.toml", str(tmp_path / "federation.toml")),
        (described, table),
        (Study.model_validate_json(json.dumps(described)), Federation.model_validate_json(json.dumps(table))),
    ):
        again = simulate(study, federation, made.folder, cache=cache)
        assert (again.folder, again.model.read_bytes()) == (made.folder, model)
        assert (made.folder / "rounds.jsonl").read_bytes() == rounds, "finished rounds are not run again"


def test_the_cache_is_that_of_the_environment(made: Run, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROSTAFED_CACHE", str(cache))
    before = sorted(cache.glob("cases/*"))
    simulate(TEXT, SITES, made.folder)
    assert sorted(cache.glob("cases/*")) == before


def test_mistakes_are_one_sentence(made: Run, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for expected, study, federation, engine in (
        ("study: unknown key 'stage.1.roundz'; did you", TEXT.replace("rounds", "roundz"), SITES, "local"),
        ("study is not valid TOML", TEXT + "\n[", SITES, "local"),
        ("Cannot read nowhere.toml", "nowhere.toml", SITES, "local"),
        ("federation: the key 'site' is missing", TEXT, {}, "local"),
        ("federation: site 'a': the folder .*absent does not exist", TEXT,
         {"site": [{"name": "a", "source": "picai", "root": "absent"}]}, "local"),
        ("engine is 'ray', expected one of local, flower", TEXT, SITES, "ray"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=expected):
            simulate(study, federation, out, engine)
    assert not out.exists()
    with pytest.raises(CheckpointError, match="holds a run of another study"):
        simulate(TEXT.replace("rounds = 1", "rounds = 2"), SITES, made.folder, cache=cache)
    with pytest.raises(DataError, match="not a run folder"):
        open_run(tmp_path)
