"""The T2W series as DICOM datasets: what results refer to, and whose identity they carry."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from prostafed.client.ingest.images.sources import Source
from prostafed.client.ingest.images.stack import order_slices
from prostafed.client.ingest.records import Slice
from prostafed.client.predict.header import mend_headers


@dataclass(frozen=True)
class SourceSeries:
    """The datasets of a series, without pixels, and which frame each plane of the stacked volume is."""

    datasets: tuple[Dataset, ...]  # classic: one per plane, in order; enhanced: its files
    joined: Dataset | None = None  # enhanced: one image whose frames are the planes, for want of such a file
    frames: tuple[tuple[str, int], ...] = ()  # enhanced: of each plane, SOP Instance UID and 1-based frame
    mended: tuple[str, ...] = ()  # keywords of what was left out or made: it was missing or wrong

    @property
    def images(self) -> list[Dataset]:
        """Images that have one plane of the stacked volume each, in order, or all of them as their frames."""
        return list(self.datasets) if self.joined is None else [self.joined]

    def refer(self, result: Dataset) -> None:
        """Let what was made from `images` refer to the files there are, and to their frames."""
        if self.joined is None:
            return
        items = {
            id(item): item  # frames of one plane may share an item
            for group in result.PerFrameFunctionalGroupsSequence
            for derivation in group.get("DerivationImageSequence", [])
            for item in derivation.SourceImageSequence
        }
        for item in items.values():
            item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber = self.frames[item.ReferencedFrameNumber - 1]
        references = []
        for dataset in self.datasets:
            references.append(reference := Dataset())
            reference.ReferencedSOPClassUID = dataset.SOPClassUID
            reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
        result.SourceImageSequence = references
        result.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references


def read_source(source: Source) -> SourceSeries:
    """Return the datasets of the series `source` was stacked from."""
    slices = source.series[0].slices
    positions = np.array([each.position_mm for each in slices], dtype=np.float64)
    orientations = np.array([each.orientation for each in slices], dtype=np.float64)
    order = order_slices(positions, orientations)
    ordered = [slices[index] for index in order.indices]
    paths = list(dict.fromkeys(each.path for each in ordered))
    datasets = tuple(dcmread(path, stop_before_pixels=True, force=True) for path in paths)
    enhanced = "PerFrameFunctionalGroupsSequence" in datasets[0]
    if not enhanced:
        for dataset, plane in zip(datasets, ordered, strict=True):
            _place(dataset, plane, order.spacing_mm)
    mended = mend_headers(datasets, source.series[0].uid)
    if not enhanced:
        return SourceSeries(datasets, mended=mended)
    uids = {path: str(dataset.SOPInstanceUID) for path, dataset in zip(paths, datasets, strict=True)}
    frames = tuple((uids[each.path], each.frame + 1) for each in ordered)
    return SourceSeries(datasets, _join(datasets[0], ordered, order.spacing_mm), frames, mended)


def _join(first: Dataset, planes: Sequence[Slice], spacing_mm: float) -> Dataset:
    """Return an enhanced image of these planes: highdicom takes neither some frames of a file nor several files."""
    joined, shared, own = deepcopy(first), Dataset(), []
    assert planes[0].orientation is not None
    assert planes[0].pixel_spacing_mm is not None
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", planes[0].orientation)
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence(planes[0].pixel_spacing_mm, spacing_mm, spacing_mm)
    for plane in planes:
        assert plane.position_mm is not None
        own.append(group := Dataset())
        group.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", plane.position_mm)
    joined.NumberOfFrames = len(planes)
    joined.SharedFunctionalGroupsSequence, joined.PerFrameFunctionalGroupsSequence = [shared], own
    return joined


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
