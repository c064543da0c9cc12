"""The T2W series as DICOM datasets: what results refer to, and whose identity they carry."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL, getLogger
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from prostafed.client.ingest.images.sources import Source
from prostafed.client.ingest.images.stack import order_slices
from prostafed.client.ingest.records import Slice
from prostafed.client.predict.header import mend_headers


@dataclass(frozen=True)
class SourceSeries:
    """The datasets of a series, without pixels, and which plane of the stacked volume lies where."""

    datasets: tuple[Dataset, ...]  # classic: one per plane, in order; enhanced: the one file
    frames: tuple[int, ...]  # enhanced: of each plane, its frame; classic: ()
    mended: tuple[str, ...] = ()  # keywords of what was left out or made: it was missing or wrong

    def arrange(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a volume (plane, row, column) as its source's frames: what has no plane is zeros."""
        if not self.frames:
            return volume
        arranged = np.zeros((int(self.datasets[0].NumberOfFrames), *volume.shape[1:]), dtype=volume.dtype)
        arranged[list(self.frames)] = volume
        return arranged


def read_source(source: Source) -> SourceSeries:
    """Return the datasets of the series `source` was stacked from."""
    slices = source.series[0].slices
    positions = np.array([each.position_mm for each in slices], dtype=np.float64)
    orientations = np.array([each.orientation for each in slices], dtype=np.float64)
    order = order_slices(positions, orientations)
    ordered = [slices[index] for index in order.indices]
    paths = list(dict.fromkeys(each.path for each in ordered))
    datasets = tuple(dcmread(path, stop_before_pixels=True, force=True) for path in paths)
    multi_frame = len(paths) == 1 and "NumberOfFrames" in datasets[0]
    if not multi_frame:
        for dataset, plane in zip(datasets, ordered, strict=True):
            _place(dataset, plane, order.spacing_mm)
    mended = mend_headers(datasets, source.series[0].uid)
    return SourceSeries(datasets, tuple(each.frame for each in ordered) if multi_frame else (), mended)


def _place(dataset: Dataset, plane: Slice, spacing_mm: float) -> None:
    """Say where a classic image lies as it was read: its header may say so in a way of its own."""
    assert plane.position_mm is not None
    assert plane.orientation is not None
    assert plane.pixel_spacing_mm is not None
    dataset.Rows, dataset.Columns = plane.rows, plane.columns
    dataset.ImagePositionPatient = [format_number_as_ds(each) for each in plane.position_mm]
    dataset.ImageOrientationPatient = [format_number_as_ds(each) for each in plane.orientation]
    dataset.PixelSpacing = [format_number_as_ds(each) for each in plane.pixel_spacing_mm]
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        if not _is_length(dataset, keyword):
            setattr(dataset, keyword, round(spacing_mm, 6))  # the gap stands in: results cannot do without


def _is_length(dataset: Dataset, keyword: str) -> bool:
    try:
        return float(dataset[keyword].value) > 0
    except (KeyError, TypeError, ValueError):
        return False


@contextmanager
def discreet() -> Iterator[None]:
    """Keep pydicom's and highdicom's remarks from the terminal: they quote the values of tags."""
    loggers = [getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
