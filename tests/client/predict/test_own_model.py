"""A site's own model: the coordinator's encoder with the heads in the site's memory."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from prostafed.client.cli import main
from prostafed.client.predict.own_model import export_own
from prostafed.client.rounds.memory import Memory, remember, stage_folder
from prostafed.client.site.site_file import Site
from prostafed.common.bundle.record import CARD, WEIGHTS, Thresholds, read_bundle
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.models.checkpoint import read_checkpoint, save_checkpoint
from prostafed.common.study import Study
from prostafed.common.study.split import describe_split
from prostafed.common.tensors import Tensors, select_groups
from tests.common.bundle.tiny_bundle import make_study, make_tensors


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(name="north", memory=tmp_path / "memory")


def write_model(folder: Path, study: Study, tensors: Tensors) -> Path:
    metadata = {"study": study.canonical(), "study_hash": study.hash()}
    save_checkpoint(folder / "model.safetensors", tensors, metadata)
    return folder / "model.safetensors"


def keep(site: Site, study: Study, memory: Memory) -> None:
    remember(stage_folder(site.memory, "first", 1), 1, memory, study.hash())


def test_the_encoder_is_sent_and_the_heads_are_kept(site: Site, tmp_path: Path) -> None:
    study = make_study("classify")
    tensors = make_tensors(study)
    heads = {name: array + 1 for name, array in select_groups(tensors, ("head",)).items()}
    model = write_model(tmp_path, study, select_groups(tensors, ("encoder",)))
    keep(site, study, Memory(tensors=heads))
    bundle = export_own(site, "first", model, tmp_path / "own", Thresholds())
    found, metadata = read_checkpoint(bundle.folder / WEIGHTS)
    assert metadata["split"] == describe_split(study), "or nobody could start from it"
    assert set(found) == set(tensors)
    for name, array in found.items():
        np.testing.assert_array_equal(array, heads.get(name, tensors[name]))
    assert read_bundle(tmp_path / "own").record.origin == "north"
    assert "of the site north" in (bundle.folder / CARD).read_text()


def test_a_model_of_the_last_release_is_exported(site: Site, tmp_path: Path) -> None:
    study = make_study("classify")
    tensors, values = make_tensors(study), json.loads(study.canonical())
    values["model"]["stages"] = values["model"].pop("resolutions")
    values["initial"]["encoder"] = values["initial"].pop("weights")
    values["round"]["enough"] = values["round"].pop("close_after")
    metadata = {"study": json.dumps(values), "study_hash": "of the last release"}
    save_checkpoint(tmp_path / "model.safetensors", select_groups(tensors, ("encoder",)), metadata)
    memory = Memory(tensors=select_groups(tensors, ("head",)))
    remember(stage_folder(site.memory, "first", 1), 1, memory, "of the last release")
    export_own(site, "first", tmp_path / "model.safetensors", tmp_path / "own", Thresholds())
    assert read_bundle(tmp_path / "own").study == study


def test_a_personal_network_is_the_one_that_predicts(site: Site, tmp_path: Path) -> None:
    study = make_study("classify")
    tensors = make_tensors(study)
    personal = {name: array + 2 for name, array in tensors.items()}
    keep(site, study, Memory(tensors=select_groups(tensors, ("head",)), personal=personal))
    model = write_model(tmp_path, study, select_groups(tensors, ("encoder",)))
    bundle = export_own(site, "first", model, tmp_path / "own", Thresholds())
    found, _ = read_checkpoint(bundle.folder / WEIGHTS)
    for name, array in found.items():
        np.testing.assert_array_equal(array, personal[name])


def test_what_is_missing_is_one_sentence(site: Site, tmp_path: Path) -> None:
    study = make_study("classify")
    tensors = make_tensors(study)
    model = write_model(tmp_path, study, select_groups(tensors, ("encoder",)))
    with pytest.raises(ConfigurationError, match="holds nothing of stage 1 of the run first"):
        export_own(site, "first", model, tmp_path / "own", Thresholds())
    keep(site, study, Memory())
    with pytest.raises(CheckpointError, match=r"what the site kept of first: .*head.* is missing"):
        export_own(site, "first", model, tmp_path / "own", Thresholds())
    save_checkpoint(tmp_path / "nameless.safetensors", tensors, {})
    with pytest.raises(CheckpointError, match="names no study"):
        export_own(site, "first", tmp_path / "nameless.safetensors", tmp_path / "own", Thresholds())
    assert not (tmp_path / "own").exists()


def test_the_command(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study("classify")
    tensors = make_tensors(study)
    keep(site, study, Memory(tensors=select_groups(tensors, ("head",))))
    model = write_model(tmp_path, study, select_groups(tensors, ("encoder",)))
    (tmp_path / "site.toml").write_text('name = "north"\n')
    arguments = ["--model", model, "--out", tmp_path / "own", "--site", tmp_path / "site.toml", "--json"]
    monkeypatch.setattr(sys, "argv", ["prostafed-site", "export", "first", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert json.loads(capsys.readouterr().out)["task"] == "classify"
