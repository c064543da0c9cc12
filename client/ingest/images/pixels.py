"""Pixels of slices, decoded and rescaled; a file that cannot be decoded becomes a SourceError without its own words."""

import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from prostafed.client.findings import Severity, SourceError
from prostafed.client.ingest.records import Slice

FloatArray = npt.NDArray[np.float32]

_TAGS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
]


def read_pixels(slices: Sequence[Slice], severity: Severity = "F") -> FloatArray:
    """Return the values of `slices`, (slice, row, column) float32: stored value * slope + intercept.

    Padding is no image: it becomes 0, or the lowest value of the others where that is less, as air is. MONOCHROME1 is
    turned over within the range of its values, for whoever needs brightness alone. All slices have the size of the
    first and one photometric interpretation. A file is opened once for all its frames that follow each other. Raises
    SourceError, with `severity`: UNREADABLE, TRUNCATED, NO_DECODER, MIXED_SIZE, BAD_RESCALE, NOT_FINITE.
    """
    decoded = list(_decode(slices, severity))
    rows, columns = slices[0].rows, slices[0].columns
    values = np.empty((len(slices), rows, columns), dtype=np.float32)
    padded = np.zeros(values.shape, dtype=np.bool_)
    for number, (each, stored) in enumerate(zip(slices, decoded, strict=True), start=1):
        where = f"slice {number} of {len(slices)}"
        if stored.shape != (rows, columns):
            raise SourceError(
                "MIXED_SIZE",
                f"expected {rows} x {columns} grey pixels in every slice, found "
                f"{' x '.join(str(size) for size in stored.shape)} in {where}; export the series again.",
                severity,
            )
        if each.slope == 0 or not np.isfinite((each.slope, each.intercept)).all():
            raise SourceError(
                "BAD_RESCALE",
                f"expected a rescale slope other than 0, found none that is usable in {where}; export the series "
                "again from the scanner.",
                severity,
            )
        if each.padding is not None:
            low, high = each.padding
            padded[number - 1] = np.greater_equal(stored, low) & np.less_equal(stored, high)
        np.multiply(stored, each.slope, out=values[number - 1], casting="unsafe")
        values[number - 1] += np.float32(each.intercept)
    if not np.isfinite(values).all():
        number = int(np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))[0]) + 1
        raise SourceError(
            "NOT_FINITE",
            f"expected finite pixels, found NaN or infinity in slice {number} of {len(slices)}; export the series "
            "again.",
            severity,
        )
    imaged = values[~padded] if padded.any() else values
    lowest, highest = (imaged.min(), imaged.max()) if imaged.size else (0.0, 0.0)
    if slices[0].inverted:
        np.subtract(lowest + highest, values, out=values)
    values[padded] = min(lowest, 0.0)
    return values


def _decode(slices: Sequence[Slice], severity: Severity) -> Iterator[npt.NDArray[np.generic]]:
    for path, group in groupby(slices, key=lambda each: each.path):
        of_file = list(group)
        if all(each.stored is not None for each in of_file):
            yield from _read_stored(of_file, severity)
            continue
        frames = [each.frame for each in of_file]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they quote the file
                decoded = _decode_file(path, frames)
        except Exception as error:  # a damaged file makes pydicom and its decoders raise anything at all
            raise _explain(path, error, severity) from None
        yield from decoded


def _read_stored(slices: Sequence[Slice], severity: Severity) -> Iterator[npt.NDArray[np.generic]]:
    """Yield uncompressed pixels from where they lie in a file: parsing its header again would take ten times that."""
    try:
        with slices[0].path.open("rb") as file:
            for each in slices:
                assert each.stored is not None
                kind = np.dtype(each.stored.kind)
                file.seek(each.stored.offset)
                stored = np.fromfile(file, kind, each.rows * each.columns)
                if stored.size < each.rows * each.columns:
                    raise _cut_short()
                if (unused := 8 * kind.itemsize - each.stored.bits) > 0:
                    stored = stored << unused >> unused  # the sign comes along, what lies above it goes
                yield stored.reshape(each.rows, each.columns)
    except OSError as error:
        raise _explain(slices[0].path, error, severity) from None


def _decode_file(path: Path, frames: list[int]) -> list[npt.NDArray[np.generic]]:
    dataset = dcmread(path, specific_tags=_TAGS, force=True)
    dataset.file_meta.TransferSyntaxUID = _get_transfer_syntax(dataset)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    if "NumberOfFrames" not in dataset or frames == [0]:
        return [decoder.as_array(dataset, index=frame, raw=True)[0] for frame in frames]
    wanted = sorted(set(frames))
    decoded = {
        frame: array
        for frame, (array, _) in zip(wanted, decoder.iter_array(dataset, indices=wanted, raw=True), strict=True)
    }
    return [decoded[frame] for frame in frames]


def _get_transfer_syntax(dataset: FileDataset) -> UID:
    if uid := dataset.file_meta.get("TransferSyntaxUID"):
        return UID(uid)
    implicit, little = dataset.original_encoding  # no file header: what reading found out
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _explain(path: Path, error: Exception, severity: Severity) -> SourceError:
    """Return which of its codes a failure to decode has; the error's own text would hold paths and values."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path, specific_tags=_TAGS, force=True)
            syntax = _get_transfer_syntax(dataset)
            if syntax.is_encapsulated:
                if not _can_decode(syntax):
                    return SourceError(
                        "NO_DECODER",
                        "expected pixels this installation can decompress, found a compression it has no decoder "
                        "for; install prostafed[dicom-codecs], or export the series uncompressed.",
                        severity,
                    )
            elif "PixelData" in dataset:
                frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
                pixels = frames * samples * int(dataset.Rows) * int(dataset.Columns)
                if len(dataset.PixelData) < ceil(pixels * int(dataset.BitsAllocated) / 8):
                    return _cut_short()
    except Exception:  # as above: what reading it raises is not said
        pass
    return SourceError(
        "UNREADABLE",
        f"expected an image, found a file whose pixels cannot be read ({type(error).__name__}); export it again.",
        severity,
    )


def _cut_short() -> SourceError:
    return SourceError(
        "TRUNCATED", "expected the pixels of the whole image, found a file that ends before; copy it again."
    )


def _can_decode(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False
