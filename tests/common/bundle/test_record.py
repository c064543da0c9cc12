"""A bundle is read as it was exported, or refused in one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prostafed.common.bundle.record import FILES, RECORD, WEIGHTS, Bundle, Thresholds, describe, read_bundle
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.study import parse_study
from prostafed.common.tasks.lesion import MIN_CANDIDATE_MM3
from tests.common.bundle.tiny_bundle import GRID, make_study

Copy = Callable[[], Path]


def change(folder: Path, **values: Any) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, **values}))


def one_sentence(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_what_was_written_is_read(bundle: Bundle) -> None:
    read = read_bundle(bundle.folder)
    assert read == bundle
    assert (read.task, read.record.sequences, read.record.allow_missing) == ("lesion", ("t2w", "adc", "hbv"), ("hbv",))
    assert (read.record.spacing_mm, read.record.size) == (GRID.spacing_mm, GRID.size)
    assert read.study.hash() == read.record.study_hash
    assert set(read.record.files) == set(FILES)


def test_candidates_have_the_size_the_metrics_ask_for() -> None:
    assert Thresholds().min_candidate_mm3 == MIN_CANDIDATE_MM3


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_named(copy: Copy, name: str) -> None:
    folder = copy()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cut short, damaged or changed") as error:
        read_bundle(folder)
    assert name in one_sentence(error)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="is missing") as error:
        read_bundle(folder)
    assert name in one_sentence(error)


def test_another_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a model bundle") as error:
        read_bundle(tmp_path)
    one_sentence(error)


def test_a_bundle_for_other_sequences_is_refused(copy: Copy) -> None:
    folder = copy()
    change(folder, sequences=["t2w", "adc"])
    with pytest.raises(CheckpointError, match=r"expected sequences .* found \('t2w', 'adc'\)") as error:
        read_bundle(folder)
    one_sentence(error)
    study = json.loads(make_study().canonical())
    study["data"]["sequences"] = ["t2w", "dce"]
    change(folder, sequences=["t2w", "dce"], study=json.dumps(study))
    with pytest.raises(ConfigurationError, match=r"cannot read .*dce") as error:
        read_bundle(folder)
    one_sentence(error)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"study": 3}'])
def test_a_damaged_record_is_one_sentence(copy: Copy, text: str) -> None:
    folder = copy()
    (folder / RECORD).write_text(text)
    with pytest.raises((ConfigurationError, CheckpointError)) as error:
        read_bundle(folder)
    one_sentence(error)


def test_a_record_that_names_too_few_files_is_refused(copy: Copy, bundle: Bundle) -> None:
    folder = copy()
    change(folder, files={name: value for name, value in bundle.record.files.items() if name != WEIGHTS})
    with pytest.raises(CheckpointError, match=r"names no models/model\.safetensors"):
        read_bundle(folder)


def test_a_pretraining_stage_is_not_exported() -> None:
    study = parse_study('{"name": "p", "stage": [{"kind": "pretrain", "rounds": 1}]}')
    with pytest.raises(ConfigurationError, match="a pretrained encoder alone predicts nothing"):
        describe(study, 1)
