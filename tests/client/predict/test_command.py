"""`prostafed-site predict` as typed: exit codes, one JSON object, a sentence per mistake, no patient anywhere."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prostafed.client.cli import main
from prostafed.common.bundle.record import WEIGHTS, Bundle
from tests.client.ingest.tiny_study import make_study, save_study

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in the folder of a new site; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prostafed-site", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        assert "Traceback" not in said.err
        return int(ended.value.code or 0), said.out, said.err

    assert run("init", tmp_path / "north", "--name", "north")[0] == 0
    monkeypatch.chdir(tmp_path / "north")
    return run


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    save_study(make_study(patient="Doe^Jane"), tmp_path / "dicom" / "Doe^Jane")
    return tmp_path / "dicom"


def test_it_prints_one_object_and_nothing_of_a_patient(call: Call, dicom: Path, bundle: Bundle) -> None:
    code, out, err = call("predict", "--dicom", dicom, "--model", bundle.folder, "--out", "results", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found == json.loads(Path("results/predict.json").read_text())
    (study,) = found["studies"]
    assert Path("results", study["study"], "report.dcm").is_file()
    code, text, told = call("predict", "--dicom", dicom, "--model", bundle.folder, "--out", "results")
    assert code == 0
    assert "1 of 1 studies predicted, 1 of them kept" in text
    assert "For research use" in text
    for secret in ("Doe", "Jane", "GENERATED", "20260102", "1.2.826"):
        assert secret not in out + err + text + told


def test_a_study_without_adc_is_one_sentence_and_exit_1(call: Call, dicom: Path, bundle: Bundle) -> None:
    for path in (dicom / "Doe^Jane").iterdir():
        if path.name not in ("t2w", "hbv"):
            shutil.rmtree(path)
    code, out, _ = call("predict", "--dicom", dicom, "--model", bundle.folder, "--out", "results")
    assert code == 1
    assert "NO_ADC case=" in out
    assert "0 of 1 studies predicted" in out


def test_a_truncated_model_is_one_sentence_before_anything_is_read(
    call: Call, dicom: Path, bundle: Bundle, tmp_path: Path
) -> None:
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[: len(content) // 2])
    code, _, err = call("predict", "--dicom", dicom, "--model", copy, "--out", "results")
    assert code == 1
    assert err.count("\n") == 1
    assert "model.safetensors is cut short, damaged or changed" in err
    assert not Path("results").exists()


def test_a_folder_that_is_no_bundle(call: Call, dicom: Path, tmp_path: Path) -> None:
    code, _, err = call("predict", "--dicom", dicom, "--model", tmp_path, "--out", "results")
    assert code == 2
    assert "is not a model bundle" in err


def test_an_export_without_dicom(call: Call, bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, _ = call("predict", "--dicom", tmp_path / "empty", "--model", bundle.folder, "--out", "results")
    assert code == 1
    assert "NO_DICOM" in out
