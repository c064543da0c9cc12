"""What a site keeps between rounds, and of a round in the making."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prostafed.client.rounds.memory import (
    Memory,
    find_answer,
    find_partial,
    keep_answer,
    recall,
    remember,
    save_partial,
    stage_folder,
    tidy,
)
from prostafed.common.errors import CheckpointError, ConfigurationError
from prostafed.common.exchange.messages import Reply, Request


def keep(folder: Path, round_number: int, study: str = "abc") -> None:
    remember(folder, round_number, Memory({"head.weight": np.full(2, round_number, np.float32)}), study)


def test_a_round_finds_what_the_round_before_left_and_can_be_asked_again(tmp_path: Path) -> None:
    for number in (1, 2, 4, 7):
        keep(tmp_path, number)
        if number < 7:
            keep_answer(tmp_path, Reply("north", "abc", 1, number, 5), "digest")
    for asked, found in ((2, 2), (3, 2), (4, 4), (6, 4), (9, 7)):
        kept = recall(tmp_path, asked, "abc")
        assert kept is not None
        assert kept.tensors["head.weight"][0] == found
    assert recall(tmp_path, 1, "abc") is None
    keep_answer(tmp_path, Reply("north", "abc", 1, 7, 5), "digest")
    assert recall(tmp_path, 3, "abc") is None  # what the last round started from, and what it left, are kept


def test_each_part_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    arrays = {name: {name: np.arange(3.0), f"{name}/inner": np.array(2)} for name in ("personal", "rule", "optimiser")}
    remember(
        tmp_path, 1, Memory({"head.weight": np.ones(1)}, residual={"encoder.weight": np.zeros(2)}, **arrays), "abc"
    )
    kept = recall(tmp_path, 1, "abc")
    assert kept is not None
    assert (list(kept.tensors), list(kept.residual)) == (["head.weight"], ["encoder.weight"])
    for name, expected in arrays.items():
        found = getattr(kept, name)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_nothing_kept_is_nothing_recalled(tmp_path: Path) -> None:
    assert recall(tmp_path / "absent", 3, "abc") is None
    assert find_answer(tmp_path / "absent", Request("train", "run", "abc", 1, 3), "digest") is None
    assert find_partial(tmp_path / "absent", 3) is None


def test_memory_of_another_study_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, 1, "another")
    with pytest.raises(CheckpointError, match="another study"):
        recall(tmp_path, 1, "abc")
    with pytest.raises(CheckpointError, match="another study"):
        recall(tmp_path, 0, "abc")  # a first round would write over it


@pytest.mark.parametrize("run", ["../other", "", "a/b", ".hidden", "a\0b"])
def test_a_run_name_from_the_wire_cannot_leave_the_folder(tmp_path: Path, run: str) -> None:
    with pytest.raises(ConfigurationError, match="not usable as a folder"):
        stage_folder(tmp_path, run, 1)


@pytest.mark.parametrize("content", [[1, 2], 3])
def test_a_round_in_the_making_that_is_none_is_begun_anew(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "partial-00001.pt")
    assert find_partial(tmp_path, 1) is None


def test_an_answer_is_found_for_the_same_request_only(tmp_path: Path) -> None:
    given = Reply("north", "abc", 2, 3, 7, {"encoder.weight": np.arange(2.0)}, {"train/loss": 0.1})
    keep_answer(tmp_path, given, "digest")
    request = Request("train", "run", "abc", 2, 3)
    found = find_answer(tmp_path, request, "digest")
    assert found is not None
    assert (found.site, found.stage, found.round, found.cases, found.metrics) == ("north", 2, 3, 7, {"train/loss": 0.1})
    assert np.array_equal(found.tensors["encoder.weight"], given.tensors["encoder.weight"])
    for study, digest, number in (("xyz", "digest", 3), ("abc", "other", 3), ("abc", "digest", 2)):
        assert find_answer(tmp_path, Request("train", "run", study, 2, number), digest) is None
    keep_answer(tmp_path, Reply("north", "abc", 2, 4), "digest")
    assert find_answer(tmp_path, request, "digest") is None, "the last answer is kept, no others"


def test_a_round_in_the_making_comes_back_and_a_broken_one_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_partial(tmp_path, 2, {"state": {"weight": torch.arange(3), "losses": [0.5]}, "phase": "shared"})
    found = find_partial(tmp_path, 2)
    assert found is not None
    assert found["state"]["losses"] == [0.5]
    assert torch.equal(found["state"]["weight"], torch.arange(3))
    path = tmp_path / "partial-00002.pt"
    path.write_bytes(path.read_bytes()[:100])
    assert find_partial(tmp_path, 2) is None
    assert "starts from its beginning" in caplog.text


def test_leftovers_are_removed_and_what_is_of_use_is_not(tmp_path: Path) -> None:
    keep(tmp_path, 2)
    for name in (
        "partial-00001.pt",
        "partial-00003.pt",
        ".partial-00003.pt.x1.part",
        ".round-00002.safetensors.y.part",
    ):
        (tmp_path / name).write_bytes(b"half")
    tidy(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["partial-00003.pt", "round-00002.safetensors"]
    tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["round-00002.safetensors"]


@pytest.mark.parametrize("run", ["opted_out.json", "sides.lock", "site.key", "told", "signed", "../run"])
def test_no_run_lies_where_the_site_keeps_something_else(run: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not usable as a folder"):
        stage_folder(tmp_path, run, 1)
