"""Where pulled instances go: a folder per series, files numbered as they arrive, each whole or not at all."""

import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom.events import Event

from prostafed.common.errors import ConfigurationError, StorageError
from prostafed.common.shell.files import make_folder, write_bytes
from prostafed.common.shell.quiet import quiet

_TAKEN, _FULL, _REFUSED = 0x0000, 0xA700, 0xA900  # of a C-STORE; refused: not what was asked for


class Shelf:
    """Takes the instances of the study that is expected as they arrive, in any order, on the network's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.expect("", {}, {})

    def expect(self, study_uid: str, folders: dict[str, Path], present: dict[str, frozenset[str]]) -> None:
        """Take, from now on, instances of these series of this study that are not present."""
        with self._lock:
            self._study_uid, self._folders = study_uid, folders
            self._taken = {instance for each in present.values() for instance in each}
            self._numbers = {uid: _last_number(folder) for uid, folder in folders.items()}
            self.failure: ConfigurationError | StorageError | None = None  # of the disk

    def store(self, event: Event) -> int:
        """Write an instance of a series that was asked for, whole or not at all; refuse any other."""
        content = event.encoded_dataset()
        header = _read_header(BytesIO(content))
        series, instance = get_text(header, "SeriesInstanceUID"), get_text(header, "SOPInstanceUID")
        with self._lock:
            if series not in self._folders or get_text(header, "StudyInstanceUID") != self._study_uid:
                return _REFUSED
            if instance in self._taken:
                return _TAKEN
            try:
                folder = make_folder(self._folders[series])
                write_bytes(folder / f"{self._numbers[series] + 1:04d}.dcm", content)
            except (ConfigurationError, StorageError) as error:
                self.failure = error
                return _FULL
            self._numbers[series] += 1
            self._taken.add(instance)
        return _TAKEN


def read_present(folder: Path) -> frozenset[str]:
    """Return the SOPInstanceUIDs of the files of a series; one that cannot be read is as good as missing."""
    return frozenset(get_text(_read_header(path), "SOPInstanceUID") for path in folder.glob("*.dcm")) - {""}


def get_texts(dataset: Dataset, keyword: str) -> Sequence[str]:
    """Return the values of a text element; () where it is missing or empty."""
    with quiet("pydicom"):
        value = dataset.get(keyword)
    if value is None or value == "":
        return ()
    return (str(value),) if isinstance(value, str) else tuple(str(each) for each in value)


def get_text(dataset: Dataset, keyword: str) -> str:
    """Return the first value of a text element, or ""."""
    return next(iter(get_texts(dataset, keyword)), "")


def _last_number(folder: Path) -> int:
    return max((int(path.stem) for path in folder.glob("*.dcm") if path.stem.isdigit()), default=0)


def _read_header(source: Path | BytesIO) -> Dataset:
    tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        with quiet("pydicom"):
            return dcmread(source, stop_before_pixels=True, specific_tags=tags)
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, NotImplementedError):
        return Dataset()
