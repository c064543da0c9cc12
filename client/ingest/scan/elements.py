"""Values of a dataset's elements as plain numbers and text, read from the bytes: never an exception, never a warning.

pydicom converts an element when it is looked at, warns with the value in the sentence and raises on what it cannot
convert. Here an element that cannot be read is a missing one, whatever its encoding: the VR of the file, UN or OB (as
archives write private elements they do not know), implicit VR without a private creator.
"""

import math
import struct
from collections.abc import Sequence
from typing import SupportsFloat

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

BLOCKS = range(0x10, 0x14)  # of private elements, in which a creator is looked for

_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}  # VR -> struct format
_ANY_BYTES = {None, "UN", "OB", "OW"}  # archives write private elements they do not know as one of these
_TEXT_NUMBERS = {"DS", "IS", "LO", "SH", "ST", "LT", "CS", "UT"}


def read_numbers(dataset: Dataset, tag: int, vr: str = "") -> tuple[float, ...]:
    """Return the numbers of an element, NaN and infinity included; () where it is missing or no number.

    `vr` is how a private element is encoded when the file does not say so.
    """
    element = _get(dataset, tag)
    if element is None:
        return ()
    if isinstance(element, RawDataElement):
        return _decode_numbers(element, vr or _look_up(tag))
    value = element.value
    if isinstance(value, bytes):
        return _parse_bytes(value, vr or _look_up(tag), little=True)
    parts = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return _convert(parts, element.VR)


def read_number(dataset: Dataset, tag: int, vr: str = "") -> float | None:
    """Return the first number of an element; None where there is none or it is not finite."""
    numbers = read_numbers(dataset, tag, vr)
    return numbers[0] if numbers and math.isfinite(numbers[0]) else None


def read_integer(dataset: Dataset, tag: int, missing: int | None = None) -> int | None:
    """Return the first number of an element as an integer; `missing` where it is not there, None where it is no number.

    A default stands in for nothing, not for garbage.
    """
    number = read_number(dataset, tag)
    if number is None:
        return None if has_value(dataset, tag) else missing
    return int(number)


def read_texts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    """Return the values of a text element without padding; () where it is missing or empty.

    Bytes are taken as UTF-8, else as Latin-1: a Korean or Japanese description may come out garbled, but always the
    same way, and what is looked for in it is ASCII.
    """
    element = _get(dataset, tag)
    stored: object = None if element is None else element.value
    value = _decode_text(stored) if isinstance(stored, bytes) else stored
    if value is None or isinstance(value, Dataset):
        return ()
    parts = value.split("\\") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    texts = tuple(str(part).strip(" \0\t\r\n") for part in parts)
    return texts if any(texts) else ()


def read_text(dataset: Dataset, tag: int) -> str:
    """Return a text element whole; "" where it is missing."""
    return "\\".join(read_texts(dataset, tag))


def has_value(dataset: Dataset, tag: int) -> bool:
    """Return whether an element is there and holds more than padding, whether or not it can be read."""
    element = _get(dataset, tag)
    value: object = None if element is None else element.value
    return bool(value.strip(b" \0") if isinstance(value, bytes) else value)


def read_bytes(dataset: Dataset, tag: int) -> bytes:
    """Return an element's bytes; b"" where it is missing or was no bytes."""
    element = _get(dataset, tag)
    return element.value if element is not None and isinstance(element.value, bytes) else b""


def read_items(dataset: Dataset, tag: int) -> Sequence[Dataset]:
    """Return the items of a sequence; () where it is missing or no sequence."""
    if tag not in dataset:
        return ()
    try:
        value = dataset[tag].value  # items of a defined length are parsed here
    except Exception:  # pydicom promises no list of what garbage makes it raise
        return ()
    is_items = isinstance(value, Sequence) and all(isinstance(item, Dataset) for item in value)
    return value if is_items else ()


def find_private(dataset: Dataset, group: int, creators: Sequence[str], offset: int) -> int | None:
    """Return the tag of a private element, e.g. (0019,xx0C) -> (0019,100C); None where there is none.

    The block is the one that a creator whose name begins with one of `creators` reserves; without any creator of that
    group, as anonymisers leave it, the block that vendors use by default, 10.
    """
    for block in BLOCKS:
        tag = group << 16 | block << 8 | offset
        if tag in dataset:
            name = read_text(dataset, group << 16 | block).upper()
            if name.startswith(tuple(creators)):
                return tag
            if not name and block == BLOCKS[0] and not any(read_text(dataset, group << 16 | each) for each in BLOCKS):
                return tag
    return None


def _get(dataset: Dataset, tag: int) -> DataElement | RawDataElement | None:
    try:
        return dataset.get_item(tag)
    except KeyError:
        return None


def _decode_text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _look_up(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _decode_numbers(element: RawDataElement, fallback: str) -> tuple[float, ...]:
    vr = fallback if element.VR in _ANY_BYTES else element.VR
    value = element.value
    return _parse_bytes(value, vr or "", element.is_little_endian) if isinstance(value, bytes) else ()


def _parse_bytes(value: bytes, vr: str, little: bool) -> tuple[float, ...]:
    if vr in _BINARY:
        code = _BINARY[vr]
        size = struct.calcsize("<" + code)
        if not value or len(value) % size:
            return ()
        return tuple(map(float, struct.unpack(("<" if little else ">") + code * (len(value) // size), value)))
    if vr in _TEXT_NUMBERS:
        return _convert(value.decode("latin-1").strip(" \0").split("\\"), vr)
    return ()


def _convert(parts: Sequence[SupportsFloat | str], vr: str) -> tuple[float, ...]:
    if vr == "DS":  # a comma there is the decimal point of a German or French writer: it can mean nothing else
        parts = [part.replace(",", ".") if isinstance(part, str) else part for part in parts]
    try:
        return tuple(float(part) for part in parts)
    except (TypeError, ValueError, OverflowError):
        return ()
