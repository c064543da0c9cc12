"""A run becomes a bundle with its card, or a sentence says what is missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.bundle.record import CARD, read_bundle
from prostafed.common.errors import CheckpointError, ConfigurationError, DataError, ProstafedError
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.study import Study, parse_study
from prostafed.common.tensors import Tensors, select_groups
from prostafed.server.cli import main
from prostafed.server.export import export_run
from prostafed.server.records.lines import MetricLine, RoundLine
from prostafed.server.records.write import open_run, write_metrics, write_rounds
from tests.common.bundle.tiny_bundle import make_study, make_tensors

MakeRun = Callable[..., Path]
METRIC = {"stage": 1, "round": 1, "split": "test"}


def write_run(folder: Path, study: Study, tensors: Tensors, **changes: Any) -> Path:
    """Write the folder of a finished run of two hospitals, as the coordinator has it."""
    open_run(folder, study)
    row = {
        "stage": 1,
        "kind": "finetune",
        "method_or_task": "lesion",
        "round": 1,
        "participants": ["north", "south"],
        "replies": ["north", "south"],
        "cases": {"north": 62, "south": 4},
        "metrics": {"north": {"loss": 0.5}, "south": {"loss": 0.6}},
        "study_hash": study.hash(),
        **changes,
    }
    values = {"auroc": 0.8125, "auroc_low": 0.7, "auroc_high": 0.9, "positives": 9.0}
    metrics = [MetricLine(**METRIC, site="north", metric=name, value=value, n=30) for name, value in values.items()]
    write_rounds(folder, [RoundLine(**row)])
    write_metrics(folder, metrics)
    metadata = {"study": study.canonical(), "study_hash": study.hash()}
    save_checkpoint(folder / "model.safetensors", tensors, metadata)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    study = make_study()
    run = write_run(tmp_path_factory.mktemp("runs") / "tiny-run", study, make_tensors(study))
    return export_run(run, min_confidence=0.25), run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    study = make_study()
    return write_run(tmp_path / "tiny-run", study, make_tensors(study))


def one_sentence(error: pytest.ExceptionInfo[ProstafedError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_bundle_is_read_back(exported: tuple[dict[str, Any], Path]) -> None:
    made, run = exported
    bundle = read_bundle(run / "bundle")
    assert made["bundle"] == str(run / "bundle")
    assert (made["task"], made["model_sha256"]) == ("lesion", bundle.model_sha256)
    assert bundle.record.thresholds.min_confidence == 0.25
    assert bundle.study == make_study()


def test_the_card_says_what_is_known_and_what_is_not(exported: tuple[dict[str, Any], Path]) -> None:
    card = (exported[1] / "bundle" / CARD).read_text()
    for part in (
        "Intended use",
        "Sites and cases",
        "Input",
        "How well it did",
        "Privacy",
        "Limits",
        "Where it comes from",
    ):
        assert f"## {part}\n" in card
    assert "Not a medical device" in card
    assert "| north | indexed by the site | 62 | not known |" in card
    assert "| south | indexed by the site | fewer than 10 | not known |" in card  # 4 would be a small cell
    assert "| AUROC | north | 0.812 | 0.700 to 0.900 | 30 |" in card
    assert "No differential privacy and no secure aggregation" in card
    assert "Pass this bundle on only to those the sites agreed to" in " ".join(card.split())
    assert "shared: encoder, heads" in card
    assert "from a confidence of 0.25 on" in card
    assert "no operating point has been validated" in card
    assert make_study().hash() in card


def test_generated_images_are_called_that(tmp_path: Path) -> None:
    study = make_study("classify")
    metrics = {"north": {"loss": 0.5, "generated": 1.0}, "south": {"loss": 0.6, "generated": 1.0}}
    made = export_run(write_run(tmp_path / "generated", study, make_tensors(study), metrics=metrics))
    assert "Generated images" in made["notices"]
    card = (Path(made["bundle"]) / CARD).read_text()
    assert "> **Generated images.** Every image" in card
    assert "| north | generated images |" in card


def test_heads_that_lie_at_the_sites_are_named(tmp_path: Path) -> None:
    study = make_study()
    run = write_run(tmp_path / "encoder-only", study, select_groups(make_tensors(study), ("encoder",)))
    with pytest.raises(CheckpointError, match="it lacks head, which did not travel: the sites have them") as error:
        export_run(run)
    assert "prostafed-site export encoder-only" in one_sentence(error)
    assert 'share = ["encoder", "heads"]' in str(error.value)
    assert not (run / "bundle").exists()


def test_local_norms_are_no_whole_model(tmp_path: Path) -> None:
    values = json.loads(make_study().canonical())
    values["stage"][0]["local"] = ["norm"]
    study = parse_study(json.dumps(values))
    with pytest.raises(CheckpointError, match="keeps norm at the sites") as error:
        export_run(write_run(tmp_path / "fedbn", study, make_tensors(study)))
    one_sentence(error)


def test_a_study_that_ends_with_pretraining_predicts_nothing(tmp_path: Path) -> None:
    values = json.loads(make_study().canonical())
    values["stage"] = [{"kind": "pretrain", "rounds": 1, "method": "simclr"}]
    study = parse_study(json.dumps(values))
    with pytest.raises(ConfigurationError, match="a pretrained encoder alone predicts nothing") as error:
        export_run(write_run(tmp_path / "pretrained", study, make_tensors(study)))
    one_sentence(error)


@pytest.mark.parametrize("name", ["study.json", "rounds.jsonl", "metrics.csv", "model.safetensors"])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(DataError, match=f"holds no {name}") as error:
        export_run(run)
    one_sentence(error)


def test_a_truncated_model_is_one_sentence(run: Path) -> None:
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(CheckpointError, match="is not a readable checkpoint") as error:
        export_run(run)
    one_sentence(error)


def test_the_model_of_another_study_is_refused(run: Path) -> None:
    other = make_study("classify")
    save_checkpoint(run / "model.safetensors", make_tensors(other), {"study_hash": other.hash()})
    with pytest.raises(CheckpointError, match="made by another study") as error:
        export_run(run)
    one_sentence(error)


class TestCommand:
    def call(self, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["prostafed-server", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    def test_it_prints_one_object(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.call(monkeypatch, "export", run, "--out", tmp_path / "mine", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert read_bundle(Path(said["bundle"])).record.name == "mine"
        assert self.call(monkeypatch, "export", run, "--out", tmp_path / "mine") == 2
        assert "exists already" in capsys.readouterr().err

    def test_a_mistake_is_a_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.call(monkeypatch, "export", tmp_path) == 1
        said = capsys.readouterr().err
        assert said.startswith("Error: ")
        assert "is not a run folder" in said
        assert "Traceback" not in said
