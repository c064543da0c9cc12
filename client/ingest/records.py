"""What the rooms of ingestion hand on: slices, series and studies as their headers describe them. In memory only.

They hold what the headers say, patient values included: they are never written, logged or printed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prostafed.client.findings import Finding

Point = tuple[float, float, float]  # (x, y, z) in mm, LPS
Kind = Literal["t2w", "adc", "dwi", "hbv_calc", "dce", "localizer", "derived", "other", "reject"]
Plane = Literal["axial", "sagittal", "coronal", "oblique", "mixed", "unknown"]


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the uncompressed grey pixels of a slice lie in its file."""

    offset: int  # of the first pixel, in bytes
    kind: str  # of numpy: "<u2", "<i2", "|u1", ...
    bits: int  # the lower ones that count, BitsStored; old files hold an overlay in the others


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Which acquisition an image is of, in the three ways headers count them."""

    number: float | None = None  # AcquisitionNumber
    time_position: float | None = None  # TemporalPositionIdentifier, of an enhanced file TemporalPositionIndex
    time: str = ""  # when it began, date before time: sorts as text


@dataclass(frozen=True, slots=True)
class Slice:
    """One image plane: a classic file, or one frame of an enhanced multi-frame file; pixels unread."""

    path: Path
    frame: int  # 0-based frame of the file; 0 in a classic file
    instance_uid: str
    instance_number: int | None
    rows: int
    columns: int
    position_mm: Point | None  # centre of the first pixel, ImagePositionPatient
    orientation: tuple[float, ...] | None  # 6 cosines: along a row (to the next column), along a column
    pixel_spacing_mm: tuple[float, float] | None  # (between rows, between columns)
    b_value_s_per_mm2: float | None
    directional: bool  # one diffusion direction only, not trace or isotropic
    slope: float  # stored value -> value; 1 where the header has none, NaN where it has one that cannot be read
    intercept: float
    stored: Stored | None = None  # None where the pixels must be decoded
    padding: tuple[float, float] | None = None  # stored values from, to: no image was made there
    inverted: bool = False  # MONOCHROME1: the least value is to be shown white
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    frame_of_reference: str = ""  # UID: positions of different ones cannot be compared
    b_value_garbled: bool = False  # its header has a b-value that cannot be read
    acquisition: Acquisition = Acquisition()


@dataclass(frozen=True)
class Header:
    """What a series' headers say of it; missing values are "" or None."""

    modality: str
    manufacturer: str
    words: str  # description (protocol where there is none) and sequence names: lower case, `_ - . /` made spaces
    image_type: tuple[str, ...]
    samples_per_pixel: int
    transfer_syntax: str  # UID
    echo_time_ms: float | None
    repetition_time_ms: float | None
    slice_thickness_mm: float | None
    contrast: bool  # a contrast agent is named
    time_points: int
    quantity: str  # code of the real-world value map, e.g. "113041" = ADC
    lossy: bool
    burned_in: bool
    body_part: str
    patient_sex: str
    component: str = ""  # "phase", "real" or "imaginary" image; "" for a magnitude, and where nothing says so


@dataclass(frozen=True)
class Series:
    """Slices of one SeriesInstanceUID that belong together; see `scan.sorting`."""

    uid: str
    number: int | None
    header: Header
    slices: tuple[Slice, ...]
    kind: Kind
    plane: Plane
    reason: str  # which rule decided, for a person: no tag value
    part: str = ""  # what tells it from others of its UID, ImageType and EchoTime: "phase", "acquisition 2"

    @property
    def b_values_s_per_mm2(self) -> tuple[float, ...]:
        """The b-values of its slices, ascending."""
        return tuple(sorted({each.b_value_s_per_mm2 for each in self.slices if each.b_value_s_per_mm2 is not None}))


@dataclass(frozen=True)
class DicomStudy:
    """One StudyInstanceUID of one patient."""

    uid: str
    patient: str  # PatientID with its issuer, or what stands in for it
    series: tuple[Series, ...]
    folder: Path  # the deepest folder that holds all its files
    bytes: int
    patient_age: int | None = None
    study_date: str = ""
    birth_date: str = ""  # digits, as year, month, day
    findings: tuple[Finding, ...] = field(default=())  # found while reading headers; case="-" until it has an id
    generated: bool = False  # its files call themselves a quality control or phantom image, (0028,0300) = YES
