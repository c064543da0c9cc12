"""The one place that writes: files whole or not at all, and one sentence where the disk does not take them.

Libraries hand over bytes, which are written here: each has its own way to say that a disk is full, or none at all.
Whole means: to a temporary file beside the target, flushed to the disk, then one rename.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from prostafed.common.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    import SimpleITK as sitk

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path, *failures: type[Exception]) -> Iterator[None]:
    """Raise StorageError where what is written to `path` meanwhile does not get there: where, how much room is left,
    what to do. `failures` are what the writer raises beside OSError.
    """
    try:
        yield
    except FileExistsError:
        raise  # no matter of the disk
    except Exception as error:
        if not isinstance(error, (OSError, *failures)):
            raise
        raise _explain(path.parent, error) from error


@contextmanager
def replacing(path: Path, *failures: type[Exception], suffix: str = "", mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder, with `suffix` at its end; on success it is flushed to disk and renamed
    to `path`, else removed; until then only its owner can read it. Raises StorageError; see `writing`.
    """
    with writing(path, *failures):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=f".part{suffix}")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def appearing(target: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `target` on success, with `replace` in the place of one that is there, and
    is removed else. Raises StorageError.
    """
    with writing(target):
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        with writing(target):
            temporary.chmod(0o755)
            if replace and target.is_dir():
                shutil.rmtree(target)
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def scratch_folder(prefix: str = "pf-", parent: str | None = None) -> Iterator[Path]:
    """Yield a folder that only its owner can read, and remove it at the end; raises StorageError."""
    folder = make_scratch(prefix, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_scratch(prefix: str, parent: str | None = None) -> Path:
    """Return a new folder that only its owner can read, to be removed by the caller; raises StorageError."""
    where = parent or tempfile.gettempdir()
    with writing(Path(where) / prefix):
        return Path(tempfile.mkdtemp(prefix=prefix, dir=where))


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write `content`, atomically; raises StorageError."""
    with replacing(path, mode=mode) as temporary:
        temporary.write_bytes(content)


def make_empty(path: Path) -> None:
    """Make an empty file, which a full disk takes as well, unless there is one."""
    path.touch()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; raises StorageError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; raises StorageError."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_once(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `content` to the new file `path`, whole or not at all; raises StorageError, FileExistsError."""
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")  # created 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, mode)
            os.link(name, path)  # unlike a rename, this fails where `path` exists
        finally:
            os.unlink(name)


def append_bytes(path: Path, content: bytes) -> None:
    """Add `content` to the end of `path`; all of it is on the disk, or nothing. Raises StorageError."""
    with writing(path), path.open("ab", buffering=0) as file:  # a buffer would add what is left of it on closing
        whole, left = file.tell(), memoryview(content)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(path, whole)
            raise


@contextmanager
def filling(path: Path, append: bool = False) -> Iterator[BinaryIO]:
    """Yield the file `path`, open for writing from its start or, with `append`, at its end; raises StorageError."""
    with writing(path), path.open("ab" if append else "wb") as file:
        yield file


def open_log(path: Path) -> TextIO:
    """Return the file `path`, open for adding lines; raises StorageError where it cannot be opened."""
    with writing(path):
        return path.open("a", encoding="utf-8", buffering=1)


def write_image(path: Path, image: "sitk.Image") -> None:
    """Write an image in the format of the suffix of `path`, atomically; raises StorageError.

    It is read back: of a NIfTI file the disk did not take, SimpleITK says nothing.
    """
    import SimpleITK as sitk

    with replacing(path, RuntimeError, suffix="".join(path.suffixes[-2:])) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)
        if sitk.Hash(sitk.ReadImage(str(temporary))) != sitk.Hash(image):
            raise RuntimeError


def rename(path: Path, target: Path) -> None:
    """Give `path` another name in its folder; raises StorageError."""
    with writing(path):
        path.rename(target)
        _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file; raises StorageError where it cannot be."""
    with writing(path):
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)


def link_to(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`; raises StorageError."""
    with writing(path):
        path.symlink_to(target)


@contextmanager
def holding(lock: Path, wait: bool = False) -> Iterator[bool]:
    """Yield whether `lock` is ours, with `wait` once it is: one process at a time holds it, and the system releases it
    however that ends.
    """
    with writing(lock):
        file = lock.open("w")
    with file:
        yield _take(file, wait)


def _take(file: TextIO, wait: bool) -> bool:
    """Take the lock of a file, and return whether it is ours. One that is held is tried once more after a moment: who
    asks `is_held` is in the way for an instant.
    """
    for pause_s in (0.05, 0.0):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return True
        time.sleep(pause_s)
    return False


def is_held(lock: Path) -> bool:
    """Return whether a process holds `lock`; nothing is written, and whoever wants it is not in the way."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def make_folder(path: Path) -> Path:
    """Create `path` and its parents and return it; raises ConfigurationError if it cannot be written to, StorageError
    where there is no room.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _explain(path, error) from error
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(
            f"Cannot write to the folder {path} ({reason}). Choose another folder or change its permissions."
        ) from error
    return path


def is_writable(folder: Path) -> bool:
    """Return whether files can be made in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_text(value: str) -> bool:
    """Return whether a string can be written: a path may hold bytes that are no UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explain(folder: Path, error: Exception) -> StorageError:
    reason = ((error.strerror if isinstance(error, OSError) else None) or "it did not take all of it").lower()
    with suppress(OSError):
        reason += f"; {shutil.disk_usage(folder).free / 1e9:.1f} GB are free there"
    return StorageError(
        f"Cannot write into {folder} ({reason}). Make room, or lift what limits this user there (quota, size "
        "of a file, permissions), and start again: what is done is kept."
    )
