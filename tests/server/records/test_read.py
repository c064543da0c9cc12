"""A run folder that is read back is what was written."""

import json
from pathlib import Path

import pytest

from prostafed.common.errors import DataError
from prostafed.server.records.read import read_run


def test_a_whole_run_is_read(run: Path) -> None:
    folder = read_run(run)
    assert [site.name for site in folder.sites] == ["alpha", "beta", "gamma"]
    assert len(folder.rounds) == 7 * 5  # rounds of both stages; federated, three local runs, pooled
    assert set(folder.predictions) == {
        (2, arm, site) for arm in ("federated", "local", "pooled") for site in ("alpha", "beta", "gamma")
    }
    first = folder.predictions[2, "federated", "alpha"][0]
    assert first.lesions == 1
    assert isinstance(first.detections, tuple)
    assert folder.record.sent == {"up": 31_000_000, "down": 31_000_000}


def test_only_the_study_is_needed(run: Path) -> None:
    for path in run.iterdir():
        if path.is_file() and path.name != "study.json":
            path.unlink()
    folder = read_run(run)
    assert (folder.rounds, folder.metrics, folder.predictions, folder.sites) == ((), (), {}, ())
    assert folder.record.state == ""


def test_a_real_federation_does_not_name_its_arm(run: Path) -> None:
    line = json.loads((run / "rounds.jsonl").read_text().splitlines()[0])
    del line["arm"]
    (run / "rounds.jsonl").write_text(json.dumps(line) + "\n")
    assert read_run(run).rounds[0].arm == "federated"


def test_what_a_later_release_adds_is_let_be(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"epsilon": 3.5}))
    assert read_run(run).record.engine == "local"


@pytest.mark.parametrize("name", ["", "missing", "study.json"])
def test_what_is_no_run_folder_is_said_so(tmp_path: Path, run: Path, name: str) -> None:
    path = {"": tmp_path, "missing": tmp_path / "missing", "study.json": run / "study.json"}[name]
    with pytest.raises(DataError, match=r"is not a run folder: it holds no study\.json"):
        read_run(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("study.json", "{"),
        ("study.json", '{"hash": "5c"}'),
        ("run.json", "[]"),
        ("rounds.jsonl", '{"stage": "two"}\n'),
        ("predictions.jsonl", '{"arm": "fede'),
        ("metrics.csv", "stage,round,site,split,metric,value,n\n1,1,alpha,train,loss,much,3\n"),
    ],
)
def test_a_damaged_file_is_named(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name} cannot be read \(.+\)\. Resume the run"):
        read_run(run)


def test_a_file_that_is_no_text_is_named(run: Path) -> None:
    (run / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_run(run)
