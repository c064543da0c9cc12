"""Files are whole or absent, and a disk that does not take them is one sentence."""

import fcntl
import json
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from prostafed.common.errors import ConfigurationError, StorageError
from prostafed.common.imaging.case_folder import write_case
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid
from prostafed.common.models.checkpoint import save_checkpoint
from prostafed.common.shell.files import (
    appearing,
    append_bytes,
    filling,
    holding,
    is_held,
    make_folder,
    replacing,
    scratch_folder,
    write_bytes,
    write_image,
    write_once,
    write_text,
)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    write_text(target, "old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Cannot write to the folder"):
        make_folder(tmp_path / "file" / "inside")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="permission"):
        make_folder(tmp_path)


def save_case(path: Path) -> None:
    grid = Grid((3.0, 1.0, 1.0), (4, 100, 100))
    image, masks = np.zeros((1, *grid.size), np.float16), np.zeros((len(MASKS), *grid.size), np.uint8)
    write_case(path.parent, CaseRecord(path.name, "p", masks=(), sequences={"t2w": ""}), image, masks, grid, ("t2w",))


def save_image(path: Path) -> None:
    write_image(path, sitk.GetImageFromArray(np.random.default_rng(0).random((9, 60, 60))))


def fill(path: Path, append: bool) -> None:
    with filling(path, append) as file:
        file.write(bytes(100_000))


def write_folder(path: Path) -> None:
    with appearing(path) as folder:
        write_bytes(folder / "a", bytes(100_000))


def append_line(path: Path) -> None:
    """Append to a file, where only the beginning finds room."""
    path.write_bytes(bytes(19_990))
    append_bytes(path, bytes(50))


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_bytes(path, bytes(100_000)),
    "text": lambda path: write_text(path, 100_000 * "a"),
    "once": lambda path: write_once(path, bytes(100_000)),
    "append": lambda path: append_bytes(path, bytes(100_000)),
    "line": append_line,
    "fill": lambda path: fill(path, append=False),
    "log": lambda path: fill(path, append=True),
    "folder": write_folder,
    "case": save_case,
    "checkpoint": lambda path: save_checkpoint(path, {"a": np.zeros(50_000, np.float32)}, {}),
    **{f"image.{suffix}": save_image for suffix in ("mha", "nii", "nii.gz", "nrrd")},
}


def write_all(folder: Path) -> None:
    """Call every writer where no file can grow beyond 20 kB, as on a disk that is full; print what each said."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    said = {}
    for name, write in WRITERS.items():
        (folder / name).mkdir()
        try:
            write(folder / name / name)
        except StorageError as error:
            said[name] = str(error)
    print(json.dumps(said))


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which every writer, in a process of its own, met a full disk, and what each said."""
    folder = tmp_path_factory.mktemp("full")
    script = f"from tests.common.shell.test_files import Path, write_all; write_all(Path({str(folder)!r}))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder, json.loads(ran.stdout)


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_is_one_sentence(name: str, full_disk: tuple[Path, dict[str, str]]) -> None:
    folder, said = full_disk[0] / name, full_disk[1][name]
    where = re.escape(str(folder))
    assert re.fullmatch(
        rf"Cannot write into {where}\S* \(.*; [0-9.]+ GB are free there\)\. Make room, .*what is done is kept\.", said
    ), said
    left = [path.stat().st_size for path in folder.iterdir()]
    expected = {"fill": 20_000, "log": 20_000, "line": 19_990}  # callers of the first two know what to do with half
    assert sum(left) == expected.get(name, 0), left


def test_what_was_appended_before_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger"
    append_bytes(path, b"first\n")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on device"):
            append_bytes(path, b"second\n")
    append_bytes(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_folder_that_cannot_be_made_for_want_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StorageError, match="no space left on device"):
        make_folder(tmp_path / "new")
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(StorageError, match="no space left on device"), scratch_folder():
        pass


def test_a_file_that_is_there_is_no_full_disk(tmp_path: Path) -> None:
    write_once(tmp_path / "key", b"1")
    with pytest.raises(FileExistsError):
        write_once(tmp_path / "key", b"2")
    assert (tmp_path / "key").read_bytes() == b"1"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with appearing(tmp_path / "new") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "new").exists()
    with appearing(tmp_path / "new", replace=True) as folder:
        (folder / "b").write_text("2")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b"]

    def fail() -> None:
        with appearing(tmp_path / "new", replace=True):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "b"]


def test_one_holds_a_lock(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as first, holding(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with holding(tmp_path / "lock") as again:
        assert again


def test_who_looks_whether_a_lock_is_held_keeps_nobody_out(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    assert not lock.exists(), "looking writes nothing"
    with holding(lock):
        assert is_held(lock)
        assert is_held(lock)
    assert not is_held(lock)
    with lock.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not is_held(lock), "another who looks is no holder"
        threading.Timer(0.01, looking.close).start()
        with holding(lock) as ours:
            assert ours, "an instant later it is free"
