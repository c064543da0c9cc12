"""What a site keeps between rounds."""

from pathlib import Path

import numpy as np
import pytest

from prostafed.client.memory import recall, remember, stage_folder
from prostafed.common.errors import CheckpointError, ConfigurationError


def keep(folder: Path, round_number: int, study: str = "abc") -> None:
    remember(folder, round_number, {"head.weight": np.full(2, round_number, np.float32)}, study)


def test_a_round_finds_what_the_round_before_left_and_can_be_asked_again(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        keep(tmp_path, number)
    for asked, found in ((2, 2), (3, 3), (7, 3)):
        kept = recall(tmp_path, asked, "abc")
        assert kept is not None
        assert kept["head.weight"][0] == found
    assert recall(tmp_path, 1, "abc") is None  # only the last two rounds are kept


def test_nothing_kept_is_nothing_recalled(tmp_path: Path) -> None:
    assert recall(tmp_path / "absent", 3, "abc") is None


def test_memory_of_another_study_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, 1, "another")
    with pytest.raises(CheckpointError, match="another study"):
        recall(tmp_path, 1, "abc")


@pytest.mark.parametrize("run", ["../other", "", "a/b", ".hidden", "a\0b"])
def test_a_run_name_from_the_wire_cannot_leave_the_folder(tmp_path: Path, run: str) -> None:
    with pytest.raises(ConfigurationError, match="not usable as a folder"):
        stage_folder(tmp_path, run, 1)
