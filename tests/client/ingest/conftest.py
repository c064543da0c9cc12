"""Small DICOM datasets and files, classic and enhanced, as tests need them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from numpy.typing import ArrayLike
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

Private = Mapping[tuple[int, int], tuple[str, Any]]  # (group, element) -> VR, value
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY_UID, SERIES_UID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.1.1"


class MakeSlice(Protocol):
    def __call__(
        self, pixels: ArrayLike | None = None, private: Private | None = None, syntax: str = ..., **tags: Any
    ) -> FileDataset: ...


class WriteSeries(Protocol):
    def __call__(
        self,
        folder: Path,
        count: int = 3,
        *,
        volume: ArrayLike | None = None,
        gap_mm: float = 3.0,
        b_values: Sequence[float | None] = (None,),
        enhanced: bool = False,
        private: Private | None = None,
        syntax: str = ...,
        **tags: Any,
    ) -> list[Path]: ...


def _make_slice(
    pixels: ArrayLike | None = None,
    private: Private | None = None,
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> FileDataset:
    values = np.asarray(np.zeros((4, 6)) if pixels is None else pixels).astype("<u2")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    encoding = UID(syntax)
    dataset = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=encoding.is_implicit_VR,
        is_little_endian=encoding.is_little_endian,
    )
    defaults: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": SERIES_UID,
        "StudyDate": "20200102",
        "Modality": "MR",
        "Manufacturer": "SIEMENS",
        "SeriesDescription": "t2_tse_tra",
        "SeriesNumber": 4,
        "InstanceNumber": 1,
        "PatientID": "P-1",
        "PatientName": "Doe^John",
        "PatientSex": "M",
        "PatientAge": "065Y",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"],
        "EchoTime": 100,
        "RepetitionTime": 5000,
        "SliceThickness": 3,
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.5, 0.5],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": values.shape[-2],
        "Columns": values.shape[-1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }
    for name, value in (defaults | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    for (group, element), (vr, value) in (private or {}).items():
        dataset.add_new((group, element), vr, value)
    dataset.PixelData = values.tobytes()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", generate_uid())
    return dataset


def _write(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _write_series(
    folder: Path,
    count: int = 3,
    *,
    volume: ArrayLike | None = None,
    gap_mm: float = 3.0,
    b_values: Sequence[float | None] = (None,),
    enhanced: bool = False,
    private: Private | None = None,
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> list[Path]:
    if volume is None:
        count_of_slices, planes = count, np.zeros((len(b_values) * count, 4, 6))
    else:
        values = np.asarray(volume)
        planes = values.reshape(-1, *values.shape[-2:])
        count_of_slices = len(planes) // len(b_values)
    places = [(b_value, index) for b_value in b_values for index in range(count_of_slices)]
    orientation = np.array(tags.get("ImageOrientationPatient", AXIAL), dtype=float).reshape(2, 3)
    origin = np.array(tags.pop("ImagePositionPatient", (0.0, 0.0, 0.0)), dtype=float)
    step = gap_mm * np.cross(*orientation)
    positions = [[round(float(part), 6) for part in origin + index * step] for _, index in places]
    if enhanced:
        dataset = _make_enhanced(planes, [b_value for b_value, _ in places], positions, private, syntax, tags)
        return [_write(dataset, folder / "1.dcm")]
    return [
        _write(
            _make_slice(
                plane,
                private,
                syntax,
                **{"InstanceNumber": number, "ImagePositionPatient": position}
                | ({} if b_value is None else {"DiffusionBValue": float(b_value)})
                | tags,
            ),
            folder / f"{number}.dcm",
        )
        for number, (plane, (b_value, _), position) in enumerate(zip(planes, places, positions, strict=True), start=1)
    ]


def _make_enhanced(
    planes: np.ndarray[Any, Any],
    b_values: Sequence[float | None],
    positions: Sequence[Sequence[float]],
    private: Private | None,
    syntax: str,
    tags: dict[str, Any],
) -> FileDataset:
    moved = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "EchoTime")
    )
    dataset = _make_slice(
        planes, private, syntax, **{"SOPClassUID": EnhancedMRImageStorage, "RepetitionTime": None} | tags | moved
    )
    dataset.NumberOfFrames = len(planes)
    shared = Dataset()
    shared.PlaneOrientationSequence = [
        _item(ImageOrientationPatient=list(tags.get("ImageOrientationPatient", AXIAL))),
    ]
    shared.PixelMeasuresSequence = [
        _item(PixelSpacing=tags.get("PixelSpacing", [0.5, 0.5]), SliceThickness=tags.get("SliceThickness", 3)),
    ]
    shared.MREchoSequence = [_item(EffectiveEchoTime=float(tags.get("EchoTime", 100)))]
    shared.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=tags.get("RepetitionTime", 5000))]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for b_value, position in zip(b_values, positions, strict=True):
        frame = Dataset()
        frame.PlanePositionSequence = [_item(ImagePositionPatient=list(position))]
        if b_value is not None:
            frame.MRDiffusionSequence = [_item(DiffusionBValue=float(b_value))]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item


@pytest.fixture(scope="session")
def make_slice() -> MakeSlice:
    """Make one classic MR image: an axial T2W slice of 4 x 6 pixels (or `pixels`) unless `tags`, DICOM keywords, say
    otherwise; None leaves an element out. `private` are further elements by tag. Save it with `save_as`.
    """
    return _make_slice


@pytest.fixture(scope="session")
def write_series() -> WriteSeries:
    """Write a series into `folder` and return its files: `count` slices per b-value, or the planes of `volume`
    (z, y, x) or (b, z, y, x), `gap_mm` apart along the normal; classic files or one enhanced one.
    """
    return _write_series


@pytest.fixture(scope="session")
def implicit_syntax() -> str:
    return ImplicitVRLittleEndian
