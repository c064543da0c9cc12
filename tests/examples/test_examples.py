"""Every example runs as its docstring says, in a folder of its own, and makes what it promises."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from prostafed.common.aggregation import AGGREGATORS
from prostafed.common.ssl import METHODS
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "examples"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.py"))
MAKES = {
    "federation": ("runs/federation/report.html",),
    "own_method": ("runs/own_method/report.html",),
    "own_aggregator": ("runs/own_aggregator/report.html",),
    "auroc_against_labels": ("auroc_against_labels.png",),
}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all: they share their hospitals."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run an example in; what it adds to tables and modules is taken back."""
    monkeypatch.setenv("PROSTAFED_CACHE", str(cache))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    for table, name in ((sys.modules, "federation"), (METHODS, "spectral"), (AGGREGATORS, "one_vote")):
        monkeypatch.setitem(table, name, None)  # so that it is taken away in the end
        del table[name]
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_runs_and_makes_what_it_promises(name: str, place: Path) -> None:
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    for made in MAKES[name]:
        assert (place / made).stat().st_size > 10_000
    stages = json.loads(next(place.glob("runs/*/study.json")).read_text())["study"]["stage"]
    used = {stage.get("method") for stage in stages} | {stage["aggregate"] for stage in stages}
    assert {"own_method": "spectral", "own_aggregator": "one_vote"}.get(name, "fedavg") in used


def test_the_page_names_every_example_and_each_is_short() -> None:
    page = (FOLDER / "README.md").read_text()
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|", page, flags=re.MULTILINE)) == EXAMPLES == sorted(MAKES)
    for name in EXAMPLES:
        text = (FOLDER / f"{name}.py").read_text()
        assert len(text.splitlines()) <= 30
        assert "images are generated" in text
        assert f"python examples/{name}.py" in text
