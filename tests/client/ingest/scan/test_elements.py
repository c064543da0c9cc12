"""Values of elements, whatever their encoding."""

import math
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from prostafed.client.ingest.scan.elements import (
    find_private,
    has_value,
    read_integer,
    read_items,
    read_number,
    read_numbers,
    read_text,
    read_texts,
)
from prostafed.common.shell.quiet import quiet

TAG = 0x0018_9087  # FD


def raw(vr: str | None, value: bytes | None, tag: int = TAG, little: bool = True) -> Dataset:
    dataset = Dataset()
    dataset[tag] = RawDataElement(Tag(tag), vr, len(value or b""), value, 0, vr is None, little)
    return dataset


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("FD", struct.pack("<d", 50), (50,)),
        ("UN", struct.pack("<d", 50), (50,)),
        ("OB", struct.pack("<d", 50), (50,)),
        (None, struct.pack("<2d", 50, 800), (50, 800)),
        ("FL", struct.pack("<f", 0.5), (0.5,)),
        ("US", struct.pack("<2H", 3, 4), (3, 4)),
        ("DS", b"1.5\\-2 ", (1.5, -2)),
        ("IS", b" 1000 ", (1000,)),
        ("DS", b"50\0", (50,)),
        ("LO", b"800", (800,)),
        ("DS", b"0,7", (0.7,)),
        ("DS", b"1,5\\-2,25", (1.5, -2.25)),
        (None, b"0,7", ()),  # of TAG, an FD
        ("DS", b"1,234.5", ()),
        ("IS", b"1,5", ()),
        ("DS", b"", ()),
        ("DS", b"abc", ()),
        ("DS", b"1\\abc", ()),
        ("DS", b"\xff\xfe", ()),
        ("FD", b"1234567", ()),
        ("FD", b"", ()),
        ("FD", None, ()),
        ("SQ", b"12345678", ()),
        ("XX", b"12345678", ()),
    ],
)
def test_numbers_of_bytes(vr: str | None, value: bytes | None, expected: tuple[float, ...]) -> None:
    assert read_numbers(raw(vr, value), TAG) == expected


def test_numbers_of_a_big_endian_file() -> None:
    assert read_numbers(raw("FD", struct.pack(">d", 50), little=False), TAG) == (50,)


@pytest.mark.parametrize(("value", "expected"), [(50, (50,)), ([1, 2], (1, 2)), ("7", (7,)), (None, ()), ("x", ())])
def test_numbers_of_a_dataset_made_in_memory(value: object, expected: tuple[float, ...]) -> None:
    dataset = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.add_new(0x0019_100C, "LO", value)
    assert read_numbers(dataset, 0x0019_100C) == expected


def test_private_bytes_are_read_as_the_vendor_writes_them() -> None:
    assert read_numbers(raw("UN", b"1000", 0x0019_100C), 0x0019_100C, "IS") == (1000,)
    assert read_numbers(raw("OB", b"\0\0zD", 0x2001_1003), 0x2001_1003, "FL") == (1000,)
    assert read_numbers(raw("UN", b"1000", 0x0019_100C), 0x0019_100C) == ()
    made_in_memory = Dataset()
    made_in_memory.add_new(0x0019_100C, "UN", b"50")
    assert read_numbers(made_in_memory, 0x0019_100C, "IS") == (50,)


def test_nan_is_a_number_of_an_element_but_not_the_first() -> None:
    dataset = raw("DS", b"nan\\1")
    assert math.isnan(read_numbers(dataset, TAG)[0])
    assert read_number(dataset, TAG) is None
    assert read_number(raw("DS", b"1e400"), TAG) is None
    assert read_integer(raw("DS", b"7.0"), TAG) == 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"ORIGINAL\\PRIMARY ", ("ORIGINAL", "PRIMARY")),
        (b"t2\0", ("t2",)),
        ("pr\u00f3stata".encode(), ("pr\u00f3stata",)),
        ("pr\u00f3stata".encode("latin-1"), ("pr\u00f3stata",)),
        (b"", ()),
        (b" \\ ", ()),
        (b"a\\\\b", ("a", "", "b")),
        (None, ()),
    ],
)
def test_texts(value: bytes | None, expected: tuple[str, ...]) -> None:
    assert read_texts(raw("LO", value, 0x0008_103E), 0x0008_103E) == expected
    assert read_text(raw("LO", value, 0x0008_103E), 0x0008_103E) == "\\".join(expected)


def test_a_missing_element() -> None:
    assert read_numbers(Dataset(), TAG) == ()
    assert read_number(Dataset(), TAG) is None
    assert read_text(Dataset(), TAG) == ""
    assert read_items(Dataset(), TAG) == ()


@given(st.sampled_from(["FD", "DS", "IS", "US", "UN", "SQ", "LO", "OB", "AT", None]), st.binary(max_size=40))
def test_nothing_raises_whatever_the_bytes(vr: str | None, value: bytes) -> None:
    with quiet("pydicom"):
        for tag in (TAG, 0x0018_9117, 0x0019_100C):
            dataset = raw(vr, value, tag)
            read_numbers(dataset, tag, "IS")
            read_integer(dataset, tag)
            read_texts(dataset, tag)
            assert all(isinstance(item, Dataset) for item in read_items(dataset, tag))


def test_a_private_block_is_found_by_its_creator() -> None:
    dataset = Dataset()
    dataset.add_new(0x0019_0010, "LO", "OTHER")
    dataset.add_new(0x0019_0011, "LO", "SIEMENS MR HEADER")
    dataset.add_new(0x0019_100C, "IS", 7)
    dataset.add_new(0x0019_110C, "IS", 800)
    assert find_private(dataset, 0x0019, ("SIEMENS MR HEADER",), 0x0C) == 0x0019_110C
    assert find_private(dataset, 0x0019, ("GEMS",), 0x0C) is None


def test_a_private_element_whose_creator_was_removed_is_found_in_the_usual_block() -> None:
    dataset = Dataset()
    dataset.add_new(0x0019_100C, "IS", 800)
    assert find_private(dataset, 0x0019, ("SIEMENS MR HEADER",), 0x0C) == 0x0019_100C
    dataset.add_new(0x0019_0011, "LO", "SOMEBODY")
    assert find_private(dataset, 0x0019, ("SIEMENS MR HEADER",), 0x0C) is None


def test_a_decimal_comma_is_a_point_whatever_the_encoding() -> None:
    for vr in ("DS", "UN", None):  # as the file says, as archives write what they do not know, implicit VR
        assert read_number(raw(vr, b"0,7 ", 0x0028_1053), 0x0028_1053) == 0.7
    made_in_memory = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made_in_memory.add(DataElement(0x0019_1099, "DS", "0,7", already_converted=True))
    assert read_numbers(made_in_memory, 0x0019_1099) == (0.7,)


def test_a_default_stands_in_for_nothing_but_not_for_garbage() -> None:
    assert read_integer(Dataset(), 0x0028_0101, 16) == 16
    assert read_integer(raw("US", b"", 0x0028_0101), 0x0028_0101, 16) == 16
    assert read_integer(raw("US", b"\1\0\1", 0x0028_0101), 0x0028_0101, 16) is None
    assert read_integer(raw("IS", b"many", 0x0028_0008), 0x0028_0008, 1) is None


@pytest.mark.parametrize(
    ("vr", "value", "filled"),
    [("DS", b"0,7", True), ("DS", b"  ", False), ("DS", b"", False), ("DS", None, False), ("FD", b"1234567", True)],
)
def test_an_element_that_holds_more_than_padding(vr: str, value: bytes | None, filled: bool) -> None:
    assert has_value(raw(vr, value), TAG) is filled
    assert not has_value(Dataset(), TAG)
