"""Which files below a folder may be images."""

import os
import re
from pathlib import Path

import pytest

from prostafed.client.ingest.scan.walk import count, describe, is_companion, walk
from prostafed.common.errors import ConfigurationError


def fill(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_files_come_in_an_order_of_their_names_whatever_the_order_of_writing(tmp_path: Path) -> None:
    names = ["b/2", "a/1", "b/10", "c", "a/deep/er/1", "a/deep/0"]
    fill(tmp_path, *names)
    found = walk(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.files] == [
        "c",
        "a/1",
        "a/deep/0",
        "a/deep/er/1",
        "b/10",
        "b/2",
    ]
    assert found.sizes == (1,) * 6
    assert describe(found) == []


@pytest.mark.parametrize(
    "name",
    [
        "DICOMDIR",
        ".DS_Store",
        "Thumbs.db",
        "._1.dcm",
        "report.PDF",
        "a.xml",
        "preview.JPG",
        "a.nii.gz",
        "1.bval",
        "LICENSE",
    ],
)
def test_companions_are_passed_without_a_word(tmp_path: Path, name: str) -> None:
    assert is_companion(name)
    fill(tmp_path, name, "1.dcm")
    found = walk(tmp_path)
    assert (len(found.files), found.companions) == (1, 1)
    assert describe(found) == []


@pytest.mark.parametrize("name", ["1", "IM-0001.dcm", "1.2.840.113619.2", "1.ima", "xml", "a.seg", "MR.jpg.dcm"])
def test_what_may_be_an_image_is_no_companion(name: str) -> None:
    assert not is_companion(name)


@pytest.mark.parametrize("name", ["study.zip", "a.ZIP", "a.tar.gz", "a.7z", "disc.iso"])
def test_an_archive_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name)
    (finding,) = describe(walk(tmp_path))
    assert (finding.code, finding.severity) == ("ZIP_FOUND", "F")
    assert finding.text == "ZIP_FOUND case=-: expected DICOM files, found 1 archive; unpack first."


def test_links_are_counted_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(root, "1.dcm")
    fill(tmp_path, "outside/2.dcm")
    (root / "file").symlink_to(tmp_path / "outside/2.dcm")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to(tmp_path / "nowhere")
    found = walk(root)
    assert [path.name for path in found.files] == ["1.dcm"]
    (finding,) = describe(found)
    assert (finding.code, finding.severity) == ("SYMLINK_SKIPPED", "W")
    assert "4 symbolic links" in finding.text


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "real/1.dcm")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(walk(tmp_path / "link").files) == 1


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    fill(tmp_path, "1.dcm")
    found = walk(tmp_path)
    assert ([path.name for path in found.files], found.empty, found.companions) == (["1.dcm"], (), 1)


def test_empty_files_are_told_apart(tmp_path: Path) -> None:
    fill(tmp_path, "1.dcm")
    fill(tmp_path, "2.dcm", content=b"")
    found = walk(tmp_path)
    assert ([path.name for path in found.files], [path.name for path in found.empty]) == (["1.dcm"], ["2.dcm"])


@pytest.mark.parametrize(("files", "overflow"), [(3, False), (4, True)])
def test_more_files_than_the_limit(tmp_path: Path, files: int, overflow: bool) -> None:
    fill(tmp_path, *map(str, range(files)))
    found = walk(tmp_path, limit=3)
    assert found.overflow is overflow
    assert [each.code for each in describe(found, limit=3)] == ["TOO_MANY_FILES"] * overflow


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_a_closed_folder_is_counted(tmp_path: Path) -> None:
    fill(tmp_path, "closed/1.dcm", "2.dcm")
    (tmp_path / "closed").chmod(0)
    try:
        found = walk(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [path.name for path in found.files] == ["2.dcm"]
    assert [(each.code, each.severity) for each in describe(found)] == [("UNREADABLE", "S")]


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "closed/1.dcm", "2.dcm")
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(f"{folder} of patient Doe")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    (finding,) = describe(walk(tmp_path))
    assert finding.code == "UNREADABLE"
    assert "1 folder could not be opened" in finding.text
    assert "Doe" not in finding.text


@pytest.mark.parametrize("name", ["missing", "file"])
def test_no_folder_is_one_sentence_without_its_path(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "file")
    with pytest.raises(ConfigurationError, match=re.escape("Give the folder of the export.")) as error:
        walk(tmp_path / name)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_count(number: int, text: str) -> None:
    assert count(number, "file") == text
