"""Lines are added, chained, on disk, and half a line is no line."""

from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.chained_file import ChainedFile, read_chained


def fill(path: Path) -> list[str]:
    file = ChainedFile(path)
    for number in (1, 2, 3):
        file.add({"said": f"m{number}"})
    assert file.length == 3
    return path.read_text().splitlines()


def test_a_line_says_its_number_and_what_was_added(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    assert [(line["number"], line["said"]) for line in read_chained(tmp_path / "a")] == [
        (1, "m1"),
        (2, "m2"),
        (3, "m3"),
    ]
    assert read_chained(tmp_path / "absent") == []


@pytest.mark.parametrize("alter", ["remove", "change", "swap"])
def test_a_line_taken_out_or_altered_shows(tmp_path: Path, alter: str) -> None:
    lines = fill(tmp_path / "a")
    if alter == "remove":
        lines = [lines[0], lines[2]]
    elif alter == "change":
        lines[1] = lines[1].replace("m2", "mX")
    else:
        lines = [lines[1], lines[0], lines[2]]
    (tmp_path / "a").write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"line \d does not follow from the line before it"):
        read_chained(tmp_path / "a")


def test_half_a_last_line_is_dropped_and_the_next_follows_on(tmp_path: Path) -> None:
    lines = fill(tmp_path / "a")
    (tmp_path / "a").write_text("\n".join(lines) + '\n{"said": "rou')
    assert len(read_chained(tmp_path / "a")) == 3
    ChainedFile(tmp_path / "a").add({"said": "m4"})
    assert [line["said"] for line in read_chained(tmp_path / "a")] == ["m1", "m2", "m3", "m4"]


def test_half_a_first_line_leaves_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"said"')
    assert ChainedFile(tmp_path / "a").length == 0
    assert (tmp_path / "a").read_bytes() == b""


def test_a_line_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[1, 2]\n")
    with pytest.raises(CheckpointError, match="holds a line that is no JSON object"):
        ChainedFile(tmp_path / "a")
