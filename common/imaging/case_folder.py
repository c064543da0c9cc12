"""A folder of cases: one safetensors file per case (float16 image, uint8 masks, record as metadata), each written atomically."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from prostafed.common.errors import DataError
from prostafed.common.files import replacing
from prostafed.common.imaging.cases import MASKS, CaseRecord, Grid, Image, Masks

_SUFFIX = ".safetensors"


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


def case_path(folder: Path, case_id: str) -> Path:
    """Return the file of a case."""
    return folder / f"{case_id}{_SUFFIX}"


def write_case(
    folder: Path, record: CaseRecord, image: Image, masks: Masks, grid: Grid, sequences: tuple[str, ...]
) -> Path:
    """Write one case and return its file; raises DataError if the arrays do not fit the grid or hold non-finite values."""
    if image.shape != (len(sequences), *grid.size) or masks.shape != (len(MASKS), *grid.size):
        raise DataError(
            f"Case {record.case_id}: expected {len(sequences)} sequences and {len(MASKS)} masks on {grid.size}, "
            f"found {image.shape} and {masks.shape}."
        )
    if not np.isfinite(image).all():
        raise DataError(f"Case {record.case_id}: the image holds values that are not finite. Check its source files.")
    path = case_path(folder, record.case_id)
    metadata = {"record": json.dumps(asdict(record)), "grid": json.dumps(asdict(grid)), "sequences": json.dumps(sequences)}
    with replacing(path) as temporary:
        save_file({"image": image.astype(np.float16), "masks": masks.astype(np.uint8)}, temporary, metadata)
    return path


def open_case_folder(folder: Path) -> CaseFolder:
    """Return the cases of `folder`; raises DataError where there is none, or where they lie on different grids."""
    files = sorted(folder.glob(f"[!.]*{_SUFFIX}"))
    if not files:
        raise DataError(f"No cases in {folder}: expected *{_SUFFIX} files. Index the site's images into it first.")
    headers = [_read_header(path) for path in files]
    _, grid, sequences = headers[0]
    for path, (_, other_grid, other_sequences) in zip(files, headers, strict=True):
        if (other_grid, other_sequences) != (grid, sequences):
            raise DataError(
                f"{path.name} lies on {other_grid} with {other_sequences}, but {files[0].name} on {grid} with {sequences}. "
                "Index the folder again for one study."
            )
    return CaseFolder(folder, grid, sequences, tuple(record for record, _, _ in headers))


def _read_header(path: Path) -> tuple[CaseRecord, Grid, tuple[str, ...]]:
    with _opened(path) as file:
        metadata = file.metadata()
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(metadata["record"]).items()}
    grid = json.loads(metadata["grid"])
    return CaseRecord(**values), Grid(tuple(grid["spacing_mm"]), tuple(grid["size"])), tuple(json.loads(metadata["sequences"]))


def _opened(path: Path) -> "safe_open":
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise DataError(f"Case file {path.name} cannot be read. Delete it and index again.") from error

