"""Lines are added, chained, on disk, and half a line is no line."""

from pathlib import Path

import pytest

from prostafed.common.errors import CheckpointError
from prostafed.common.shell.chained_file import ChainedFile, add_line, read_chained, read_end, read_last


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


def test_lines_added_without_reading_the_file_follow_on(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read whole"))
        for number in (4, 5):
            add_line(tmp_path / "a", {"said": f"m{number}", "long": "x" * 100_000})
            assert read_last(tmp_path / "a")["number"] == number
    assert [line["said"] for line in read_chained(tmp_path / "a")] == ["m1", "m2", "m3", "m4", "m5"]
    ChainedFile(tmp_path / "a").add({"said": "m6"})
    assert len(read_chained(tmp_path / "a")) == 6


def test_the_first_line_of_a_file_is_added_to_nothing(tmp_path: Path) -> None:
    assert read_last(tmp_path / "a") == {}
    add_line(tmp_path / "a", {"said": "m1"})
    (tmp_path / "b").write_text("")
    add_line(tmp_path / "b", {"said": "m1"})
    assert read_chained(tmp_path / "a") == read_chained(tmp_path / "b")
    assert len(read_chained(tmp_path / "a")) == 1


@pytest.mark.parametrize("whole", [0, 3])
def test_a_line_follows_the_last_whole_one(tmp_path: Path, whole: int) -> None:
    lines = fill(tmp_path / "a")[:whole]
    (tmp_path / "a").write_text("".join(f"{line}\n" for line in lines) + '{"said": "rou')
    add_line(tmp_path / "a", {"said": "more"})
    assert [line["number"] for line in read_chained(tmp_path / "a")] == [*range(1, whole + 2)]


@pytest.mark.parametrize("last", [b"[1, 2]", b"{}", b'{"number": "3"}', b"\xff\xfe", b"nothing", b""])
def test_nothing_is_added_to_a_damaged_last_line(tmp_path: Path, last: bytes) -> None:
    fill(tmp_path / "a")
    content = (tmp_path / "a").read_bytes() + last + b"\n"
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match="Restore the file from a copy"):
        add_line(tmp_path / "a", {"said": "m4"})
    assert (tmp_path / "a").read_bytes() == content
    with pytest.raises(CheckpointError, match="Restore the file from a copy"):
        read_chained(tmp_path / "a")


@pytest.mark.parametrize("most", [10_000, 400, 250])
def test_the_end_of_a_file_is_read_and_its_chain_held_against(most: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert read_end(path, most) == []
    for number in range(20):
        add_line(path, {"event": f"event {number}"})
    every, end = read_chained(path), read_end(path, most)
    assert end == every[-len(end) :]
    assert (len(end) == 20) is (most == 10_000)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-2], lines[-2].replace("event 18", "event 99"), lines[-1]]))
    if len(end) > 1:
        with pytest.raises(CheckpointError, match="line 20 does not follow"):
            read_end(path, most)
    path.write_text("".join([*lines, '{"event": "half']))
    assert [line["number"] for line in read_end(path, most)][-1] == 20
