"""Where pixels lie in a file."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from prostafed.client.ingest.records import Stored
from prostafed.client.ingest.scan.locate import Located, locate_pixels


def locate(dataset: Dataset) -> tuple[Located, bytes]:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return locate_pixels(file, pydicom.dcmread(file, stop_before_pixels=True), len(file.getvalue())), file.getvalue()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_the_bytes_at_the_offset_are_the_pixels(make_slice, syntax: str) -> None:
    values = np.arange(24).reshape(4, 6)
    located, content = locate(make_slice(values, syntax=syntax, BitsStored=12, HighBit=11))
    assert located.stored is not None
    assert (located.truncated, located.stored.kind, located.stored.bits) == (False, "<u2", 12)
    found = np.frombuffer(content, located.stored.kind, 24, located.stored.offset)
    np.testing.assert_array_equal(found, values.ravel())


def test_a_length_that_looks_like_a_vr_is_a_length(make_slice) -> None:
    values = np.ones((87, 100))  # 17,400 = 0x43F8 bytes; then 0x4442, "BD" in the file
    for pixels in (values, np.ones((1, 0x4442 // 2))):
        located, content = locate(make_slice(pixels, syntax=ImplicitVRLittleEndian))
        assert located.stored is not None
        assert located.stored.offset == len(content) - 2 * pixels.size


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({}, "<u2"),
        ({"PixelRepresentation": 1}, "<i2"),
        ({"HighBit": None}, "<u2"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}, "|u1"),
        ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 1}, "|i1"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "Rows": 2}, "<u4"),
        ({"BitsStored": 12, "HighBit": 15}, None),  # pixels in the upper bits
        ({"BitsStored": 17, "HighBit": 16}, None),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, None),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, None),
        ({"SamplesPerPixel": 3}, None),
        ({"PixelRepresentation": None}, None),
    ],
)
def test_how_pixels_are_stored(make_slice, tags: dict[str, int | None], kind: str | None) -> None:
    located, _ = locate(make_slice(**tags))
    assert not located.truncated
    assert (located.stored.kind if located.stored else None) == kind


@pytest.mark.parametrize("tag", [0x0028_0002, 0x0028_0101, 0x0028_0102])  # samples, bits stored, high bit
def test_garbage_is_not_what_is_usual(make_slice, tag: int) -> None:
    dataset = make_slice()
    dataset[tag] = RawDataElement(Tag(tag), "LO", 4, b"abc ", 0, False, True)
    assert locate(dataset)[0].stored is None


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_pixels_that_need_decoding_are_left_to_pydicom(make_slice, syntax: str) -> None:
    located, _ = locate(make_slice(syntax=syntax))
    assert located == Located(truncated=False, stored=None)


def test_float_pixels_are_left_to_pydicom(make_slice) -> None:
    dataset = make_slice(BitsAllocated=32)
    del dataset.PixelData
    dataset.FloatPixelData = np.zeros((4, 6), "<f4").tobytes()
    assert locate(dataset)[0] == Located(truncated=False, stored=None)


def test_stored_is_what_the_record_says(make_slice) -> None:
    located, content = locate(make_slice())
    assert located.stored == Stored(len(content) - 48, "<u2", 16)


@pytest.mark.parametrize(
    ("uid", "truncated"),
    [
        ("1.2.840.10008.5.1.4.1.1.4", True),  # MR
        ("1.2.840.10008.5.1.4.1.1.2", True),  # CT
        ("1.2.840.10008.5.1.4.1.1.30", True),  # a parametric map, as an ADC may be
        (None, True),  # no class, but rows
        ("1.2.840.10008.5.1.4.1.1.4.2", False),  # spectroscopy
        ("1.2.840.10008.5.1.4.1.1.66", False),  # raw data
        ("1.2.840.10008.5.1.4.1.1.11.1", False),  # a presentation state
        ("1.3.46.670589.11.0.0.12.2", False),  # private
    ],
)
def test_whether_a_file_without_pixels_was_cut_is_told_by_its_class(
    make_slice, uid: str | None, truncated: bool
) -> None:
    dataset = make_slice()
    del dataset.PixelData
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid or ""
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=bool(uid))
    file.seek(0)
    located = locate_pixels(file, pydicom.dcmread(file, stop_before_pixels=True, force=True), len(file.getvalue()))
    assert located == Located(truncated=truncated, present=False)
