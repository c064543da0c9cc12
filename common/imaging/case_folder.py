"""A folder of cases, one safetensors file each: float16 image, uint8 masks, record as metadata; written atomically."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from prostafed.common.errors import DataError
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid, Image, Masks
from prostafed.common.shell.files import write_bytes

_SUFFIX = ".safetensors"
_CASE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")  # it becomes a file name


@dataclass(frozen=True)
class CaseFolder:
    """The cases of a folder, sorted by case id; arrays are read when asked for."""

    folder: Path
    grid: Grid
    sequences: tuple[str, ...]
    records: tuple[CaseRecord, ...]

    def load(self, index: int) -> tuple[Image, Masks]:
        """Return the image (sequence, z, y, x) float16 and masks (MASKS, z, y, x) uint8 of `records[index]`."""
        with _opened(case_path(self.folder, self.records[index].case_id)) as file:
            return file.get_tensor("image"), file.get_tensor("masks")

    def load_image(self, index: int) -> Image:
        """Return the image alone, as `load` does; the bytes of the masks are not read."""
        with _opened(case_path(self.folder, self.records[index].case_id)) as file:
            image: Image = file.get_tensor("image")
            return image


def case_path(folder: Path, case_id: str) -> Path:
    """Return the file of a case."""
    return folder / f"{case_id}{_SUFFIX}"


def write_case(
    folder: Path, record: CaseRecord, image: Image, masks: Masks, grid: Grid, sequences: tuple[str, ...]
) -> Path:
    """Write one case and return its file; raises DataError if it does not fit the grid or is not finite in float16."""
    if not _CASE_ID.fullmatch(record.case_id):
        raise DataError(f"Case id {record.case_id!r}: expected letters, digits and _ - . only. Rename the case.")
    if image.shape != (len(sequences), *grid.size) or masks.shape != (len(MASKS), *grid.size):
        raise DataError(
            f"Case {record.case_id}: expected {len(sequences)} sequences and {len(MASKS)} masks on {grid.size}, "
            f"found {image.shape} and {masks.shape}."
        )
    with np.errstate(over="ignore"):  # what overflows is refused below
        stored = np.ascontiguousarray(image, dtype=np.float16)  # safetensors would scramble another memory order
    if not np.isfinite(stored).all():
        raise DataError(
            f"Case {record.case_id}: the image holds values that are not finite in float16. Check its source files."
        )
    path = case_path(folder, record.case_id)
    header = {"record": asdict(record), "grid": asdict(grid), "sequences": sequences}
    voxels = {"image": stored, "masks": np.ascontiguousarray(masks, dtype=np.uint8)}
    # One key: safetensors writes several in an order that changes from run to run, and equal cases are equal bytes.
    write_bytes(path, save(voxels, {"case": json.dumps(header, sort_keys=True)}))
    return path


def open_case_folder(folder: Path) -> CaseFolder:
    """Return the cases of `folder`; raises DataError where there is none, or where they lie on different grids."""
    files = sorted(folder.glob(f"[!.]*{_SUFFIX}"), key=lambda path: path.stem)
    if not files:
        raise DataError(f"No cases in {folder}: expected *{_SUFFIX} files. Index the site's images into it first.")
    headers = [_read_header(path) for path in files]
    _, grid, sequences = headers[0]
    for path, (_, other_grid, other_sequences) in zip(files, headers, strict=True):
        if (other_grid, other_sequences) != (grid, sequences):
            raise DataError(
                f"{path.name} lies on {other_grid} with {other_sequences}, but {files[0].name} on {grid} with "
                f"{sequences}. Index the folder again for one study."
            )
    return CaseFolder(folder, grid, sequences, tuple(record for record, _, _ in headers))


def read_record(path: Path) -> CaseRecord:
    """Return the record of one case file; raises DataError where it is none of this release."""
    return _read_header(path)[0]


def _read_header(path: Path) -> tuple[CaseRecord, Grid, tuple[str, ...]]:
    with _opened(path) as file:
        metadata = file.metadata()
    try:
        values = json.loads(metadata["case"])
        record = CaseRecord(**{key: _as_tuple(value) for key, value in values["record"].items()})
        sequences = tuple(values["sequences"])
        grid = Grid(**{key: _as_tuple(value) for key, value in values["grid"].items()})
    except (KeyError, TypeError, ValueError) as error:  # another program's file, or another release's
        raise DataError(
            f"Case file {path.name} has no case header this release reads. Index the case again."
        ) from error
    if record.case_id != path.stem:
        raise DataError(f"Case file {path.name} holds case {record.case_id}. Give it back its name, or index it again.")
    return record, grid, sequences


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise DataError(f"Case file {path.name} cannot be read. Delete it and index again.") from error
