"""What SimpleITK does not say of a NIfTI file: that it gives two positions (qform and sform must agree then), and that
it ends before its last voxel.
"""

import gzip
import math
import zlib
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]  # (3, 4): index (x, y, z) -> mm

# In 1,900 files of PI-CAI, Prostate158 and MSD that give both, they differ by up to 0.11 voxels: a quaternion rounds.
MAX_DIFFERENCE_VOXELS = 1.0

_HEADER = np.dtype(  # what is needed of nifti1.h; SimpleITK reads no NIfTI-2
    {
        "names": (
            "dim",
            "bitpix",
            "pixdim",
            "vox_offset",
            "qform_code",
            "sform_code",
            "quaternion",
            "qoffset",
            "sform",
        ),
        "formats": ("8i2", "i2", "8f4", "f4", "i2", "i2", "3f4", "3f4", "(3,4)f4"),
        "offsets": (40, 72, 76, 108, 252, 254, 256, 268, 280),
        "itemsize": 348,
    }
)

_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)


def measure_disagreement(path: Path) -> float:
    """Return by how many voxels qform and sform differ at the corner of the volume where they differ most.

    0 where `path` is no NIfTI file that can be read, or gives one position or none: a code of 0 is no position.
    """
    header = _read_header(path)
    if header is None or header["qform_code"] <= 0 or header["sform_code"] <= 0:
        return 0.0
    qform = _make_qform(header)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (header["dim"][1:4] - 1.0)
    apart = header["sform"].astype(np.float64) - qform
    steps_mm = np.linalg.norm(qform[:, :3], axis=0)
    with np.errstate(all="ignore"):
        voxels = (corners @ apart[:, :3].T + apart[:, 3]) @ (qform[:, :3] / steps_mm) / steps_mm
    return float(np.nan_to_num(np.abs(voxels), nan=np.inf).max())


def is_cut_short(path: Path) -> bool:
    """Whether a file ends before its last voxel, as one half copied does: SimpleITK reads the rest as zeros. False
    where `path` is no NIfTI file whose header can be read.
    """
    header = _read_header(path)
    if header is None:
        return False
    dimensions = min(max(int(header["dim"][0]), 0), 7)
    voxels = math.prod(max(int(size), 1) for size in header["dim"][1 : dimensions + 1])
    start = header["vox_offset"] if np.isfinite(header["vox_offset"]) else 0
    try:
        with _open(path.with_suffix(".img") if path.suffix == ".hdr" else path) as file:
            file.seek(max(int(start), 0) + voxels * int(header["bitpix"]) // 8 - 1)
            return not file.read(1)
    except _UNREADABLE:
        return True


def _open(path: Path) -> GzipFile | BufferedReader:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def _read_header(path: Path) -> Any:
    """Return the fields of a header, or None."""
    try:
        with _open(path.with_suffix(".hdr") if path.suffix == ".img" else path) as file:
            content = file.read(_HEADER.itemsize)
    except _UNREADABLE:
        return None  # reading it as an image says so
    for order in ("<", ">"):
        kind = _HEADER.newbyteorder(order)
        if len(content) == kind.itemsize == np.frombuffer(content[:4], f"{order}i4")[0]:
            return np.frombuffer(content, kind)[0]
    return None


def _make_qform(header: Any) -> Affine:
    """Return the affine of the unit quaternion (a, b, c, d), a >= 0, the spacing and the offset; see nifti1_io.c."""
    vector = header["quaternion"].astype(np.float64)
    length = np.linalg.norm(vector)
    a = np.sqrt(rest) if (rest := 1 - length**2) >= 1e-7 else 0.0  # below: what rounding left of half a turn
    b, c, d = vector if a else vector / length
    axes = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = np.array([1.0, 1.0, -1.0 if header["pixdim"][0] < 0 else 1.0])
    return np.column_stack((axes * handed * header["pixdim"][1:4], header["qoffset"]))
