"""One file as what its header says of it, or the code of what is wrong with it. Pixels stay unread."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import BaseTag, Tag

from prostafed.client.ingest.records import Header, Slice
from prostafed.client.ingest.scan import b_values, frames, locate
from prostafed.client.ingest.scan.elements import read_integer, read_items, read_text
from prostafed.client.ingest.scan.frames import Frame, find_number, read_frames
from prostafed.client.ingest.scan.locate import MR_CLASSES, locate_pixels
from prostafed.common.shell.quiet import quiet

STUDY, SERIES, SOP_CLASS = 0x0020_000D, 0x0020_000E, 0x0008_0016
PATIENT_ID, ISSUER, SEX, AGE, BIRTH_DATE = 0x0010_0020, 0x0010_0021, 0x0010_0040, 0x0010_1010, 0x0010_0030
STUDY_DATE, SERIES_NUMBER, MODALITY, MANUFACTURER = 0x0008_0020, 0x0020_0011, 0x0008_0060, 0x0008_0070
DESCRIPTION, PROTOCOL, SEQUENCE_NAME, SCANNING = 0x0008_103E, 0x0018_1030, 0x0018_0024, 0x0018_0020
PULSE_NAME, ECHO_PLANAR, INVERSION = 0x0018_9005, 0x0018_9018, 0x0018_9009
SAMPLES, CONTRAST, CONTRAST_ITEMS, TIME_POINTS = 0x0028_0002, 0x0018_0010, 0x0018_0012, 0x0020_0105
LOSSY, BURNED_IN, BODY_PART, QUALITY_CONTROL = 0x0028_2110, 0x0028_0301, 0x0018_0015, 0x0028_0300
QUANTITY, CONCEPT, CODE = 0x0040_9220, 0x0040_A168, 0x0008_0100

_OWN_TAGS = (
    *(STUDY, SERIES, SOP_CLASS, PATIENT_ID, ISSUER, SEX, AGE, BIRTH_DATE, STUDY_DATE, SERIES_NUMBER, MODALITY),
    *(MANUFACTURER, DESCRIPTION, PROTOCOL, SEQUENCE_NAME, SCANNING, PULSE_NAME, ECHO_PLANAR, INVERSION, SAMPLES),
    *(CONTRAST, CONTRAST_ITEMS, TIME_POINTS, LOSSY, BURNED_IN, BODY_PART, QUALITY_CONTROL),
)
# What is read of a file; as pydicom's own tags, or it would convert them again for each file.
TAGS: list[BaseTag | int] = [Tag(tag) for tag in {*_OWN_TAGS, *frames.TAGS, *b_values.TAGS, *locate.TAGS}]

# Transfer syntaxes that always lose something: JPEG baseline and extended, JPEG-LS near-lossless.
_LOSSY_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81))
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"BZh", b"\xfd7zXZ\x00")
# First group of a file without preamble: meta information, or identification in either byte order.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


@dataclass(frozen=True)
class SliceGroup:
    """The slices of one file that belong to one series: they share ImageType, EchoTime and component."""

    header: Header
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Instance:
    """One file that holds images."""

    path: Path
    study: str
    series: str
    series_number: int | None
    uid: str
    patient: str  # PatientID; "" where the header has none, as is the issuer
    issuer: str
    patient_age: int | None
    study_date: str
    birth_date: str  # digits only; "" where the header has none
    generated: bool
    groups: tuple[SliceGroup, ...]
    truncated: bool = False


@dataclass(frozen=True)
class Rejected:
    """A file that is no image: the code of why, "" where nothing needs to be said (a report, a contour)."""

    path: Path
    code: str


def read_instances(paths: Sequence[Path]) -> list[Instance | Rejected]:
    """Return what each file is, in order; raises nothing, whatever the files hold."""
    with quiet("pydicom"):
        return [read_instance(path) for path in paths]


def read_instance(path: Path) -> Instance | Rejected:
    """Return what a file is; raises nothing, whatever the file holds. Call it inside `quiet`."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
            if not _looks_like_dicom(start):
                return Rejected(path, "ZIP_FOUND" if start.startswith(_ARCHIVES) else "NOT_DICOM")
            file.seek(0)
            return _read_dicom(file, path, bare=start[128:] != b"DICM")
    except Exception:  # pydicom promises no list of what garbage makes it raise; its sentences quote paths and values
        return Rejected(path, "UNREADABLE")


def _looks_like_dicom(start: bytes) -> bool:
    return start[128:] == b"DICM" or start[:2] in _FIRST_GROUPS


def _read_dicom(file: BinaryIO, path: Path, bare: bool) -> Instance | Rejected:
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=TAGS, force=bare)
    study = read_text(dataset, STUDY)
    pixels = locate_pixels(file, dataset, os.fstat(file.fileno()).st_size)
    if not pixels.present and not pixels.truncated and (study or (SOP_CLASS in dataset and not bare)):
        return Rejected(path, "")
    if not study:
        return Rejected(path, "NOT_DICOM" if bare else "TRUNCATED" if pixels.truncated else "UNREADABLE")
    if frames.ROWS not in dataset and not pixels.truncated:
        return Rejected(path, "UNREADABLE")
    groups: dict[tuple[tuple[str, ...], float | None, str], list[Frame]] = {}
    for frame in read_frames(dataset, path, pixels.stored):
        groups.setdefault((frame.image_type, frame.echo_time_ms, frame.component), []).append(frame)
    return Instance(
        path=path,
        study=study,
        series=read_text(dataset, SERIES),
        series_number=read_integer(dataset, SERIES_NUMBER),
        uid=read_text(dataset, frames.SOP_INSTANCE),
        patient=read_text(dataset, PATIENT_ID),
        issuer=read_text(dataset, ISSUER),
        patient_age=_read_age(dataset),
        study_date=read_text(dataset, STUDY_DATE),
        birth_date=re.sub(r"\D", "", read_text(dataset, BIRTH_DATE)),
        generated=read_text(dataset, QUALITY_CONTROL).upper() == "YES",
        groups=tuple(
            SliceGroup(_read_header(dataset, of[0]), tuple(each.slice for each in of)) for of in groups.values()
        ),
        truncated=pixels.truncated,
    )


def _read_header(dataset: FileDataset, frame: Frame) -> Header:
    syntax = read_text(dataset.file_meta, 0x0002_0010)
    sop_class = read_text(dataset, SOP_CLASS)
    samples = read_integer(dataset, SAMPLES)
    if read_text(dataset, frames.PHOTOMETRIC).upper() == "PALETTE COLOR":
        samples = 3  # one number per pixel, the place of a colour in a table
    return Header(
        modality=read_text(dataset, MODALITY).upper() or ("MR" if sop_class in MR_CLASSES else ""),
        manufacturer=read_text(dataset, MANUFACTURER),
        words=_read_words(dataset),
        image_type=frame.image_type,
        samples_per_pixel=1 if samples is None else samples,
        transfer_syntax=syntax,
        echo_time_ms=frame.echo_time_ms,
        repetition_time_ms=find_number(dataset, frame.groups, frames.REPETITION_TIME),
        slice_thickness_mm=find_number(dataset, frame.groups, frames.THICKNESS),
        contrast=read_text(dataset, CONTRAST).lower() not in ("", "no", "none", "n")
        or bool(read_items(dataset, CONTRAST_ITEMS)),
        time_points=read_integer(dataset, TIME_POINTS) or 1,
        quantity=_read_quantity(dataset, frame.groups),
        lossy=read_text(dataset, LOSSY) == "01" or syntax in _LOSSY_SYNTAXES,
        burned_in=read_text(dataset, BURNED_IN).upper() == "YES",
        body_part=read_text(dataset, BODY_PART).upper(),
        patient_sex=read_text(dataset, SEX).upper(),
        component=frame.component,
    )


def _read_words(dataset: Dataset) -> str:
    """What people and scanner call a series. A protocol's name counts only where there is no description: some vendors
    write the name of the whole examination into it, "prostate T2 DWI", for every series.
    """
    named = read_text(dataset, DESCRIPTION) or read_text(dataset, PROTOCOL)
    sequence = (read_text(dataset, tag) for tag in (SEQUENCE_NAME, PULSE_NAME, SCANNING))
    flags = (word for tag, word in ((ECHO_PLANAR, "ep"), (INVERSION, "ir")) if read_text(dataset, tag) == "YES")
    return re.sub(r"[\s_\-./\\]+", " ", " ".join((named, *sequence, *flags))).strip().lower()


def _read_quantity(dataset: Dataset, groups: Sequence[Dataset]) -> str:
    """Code of what the values of a real-world value map are; "" where there is none."""
    for place in (*groups, dataset):
        for real_world in read_items(place, frames.REAL_WORLD):
            for quantity in read_items(real_world, QUANTITY):
                for concept in read_items(quantity, CONCEPT):
                    return read_text(concept, CODE)
    return ""


def _read_age(dataset: Dataset) -> int | None:
    """Years: as written, else from the dates of birth and study."""
    if match := re.fullmatch(r"(\d{3})Y", read_text(dataset, AGE)):
        return int(match[1])
    with suppress(ValueError):
        born, seen = (date.fromisoformat(read_text(dataset, tag)) for tag in (BIRTH_DATE, STUDY_DATE))
        age = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
        return age if 0 <= age <= 130 else None
    return None
