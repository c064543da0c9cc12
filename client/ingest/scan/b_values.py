"""The b-value of an image, in s/mm2, from wherever its vendor writes it.

In this order: the functional groups of an enhanced file, (0018,9117) > (0018,9087); the standard element (0018,9087);
Siemens (0019,xx0C), then the CSA header (0029,xx10), then the sequence name; GE (0043,xx39) modulo 1e9; Philips
(2001,xx03); United Imaging (0065,xx09). A series' description is never read: it says what somebody planned.
"""

import math
import re
import struct
from collections.abc import Iterator

from pydicom.dataset import Dataset

from prostafed.client.ingest.scan.elements import (
    BLOCKS,
    find_private,
    has_value,
    read_bytes,
    read_items,
    read_number,
    read_numbers,
    read_text,
    read_texts,
)

MAX_B_VALUE = 10_000.0  # s/mm2; beyond it a header holds garbage

B_VALUE, DIRECTIONALITY, GRADIENT = 0x0018_9087, 0x0018_9075, 0x0018_9089
DIFFUSION, SEQUENCE_NAME, IMAGE_TYPE = 0x0018_9117, 0x0018_0024, 0x0008_0008
SIEMENS, SIEMENS_CSA = ("SIEMENS MR HEADER",), ("SIEMENS CSA HEADER",)
GE, PHILIPS, UIH = ("GEMS_PARM",), ("PHILIPS IMAGING DD 001",), ("IMAGE PRIVATE HEADER",)

# What must be read of a file for the functions here; private elements in the blocks a vendor uses, and their creators.
_OFFSETS = {0x0019: (0x0C, 0x0D, 0x0E), 0x0029: (0x10,), 0x0043: (0x39,), 0x2001: (0x03, 0x04), 0x0065: (0x09,)}
TAGS = (
    *(B_VALUE, DIRECTIONALITY, GRADIENT, DIFFUSION, SEQUENCE_NAME, IMAGE_TYPE),
    *(group << 16 | block for group in _OFFSETS for block in BLOCKS),
    *(group << 16 | block << 8 | at for group, offsets in _OFFSETS.items() for at in offsets for block in BLOCKS),
)

_SIEMENS_NAME = re.compile(r"_b(\d+)(t|#\d+)?$")  # *ep_b50t, *ep_b1000#3; not *ep_b50_800, a map made from both


def read_b_value(dataset: Dataset, *groups: Dataset) -> float | None:
    """Return the b-value of an image in s/mm2, 0 to 10,000; None where its header has none.

    `groups` are the items of the functional groups that hold for a frame of an enhanced file, its own one first.
    """
    for value in _candidates(dataset, groups):
        if value is not None and 0 <= value <= MAX_B_VALUE:
            return value
    return None


def is_garbled(dataset: Dataset, *groups: Dataset) -> bool:
    """Whether an image's header has a b-value and none that can be read: that is no image without one."""
    return read_b_value(dataset, *groups) is None and any(each is not None for each in _candidates(dataset, groups))


def is_directional(dataset: Dataset, *groups: Dataset) -> bool:
    """Whether an image shows one diffusion direction only: neither without diffusion nor a trace or isotropic image."""
    for item in (*_diffusion_items(groups), dataset):
        if directionality := read_text(item, DIRECTIONALITY):
            return directionality.upper() in ("DIRECTIONAL", "BMATRIX")
    if "TRACEW" in (part.upper() for part in read_texts(dataset, IMAGE_TYPE)) or not read_b_value(dataset, *groups):
        return False
    if (tag := find_private(dataset, 0x2001, PHILIPS, 0x04)) and (letter := read_text(dataset, tag)):
        return letter.upper() not in ("I", "0", "0.0")  # isotropic; the letter of a direction otherwise
    if (tag := find_private(dataset, 0x0019, SIEMENS, 0x0D)) and (word := read_text(dataset, tag)):
        return word.upper() == "DIRECTIONAL"
    tag = find_private(dataset, 0x0019, SIEMENS, 0x0E)
    gradient = read_numbers(dataset, GRADIENT) or (read_numbers(dataset, tag, "FD") if tag else ())
    return any(gradient) or "#" in read_text(dataset, SEQUENCE_NAME)


def read_csa_number(header: bytes, name: str) -> float | None:
    """Return the first number of a field of a Siemens CSA header; None where it is missing or the header is garbage.

    Little endian: "SV10", 4 bytes, number of fields, 4 bytes; per field: name (64 bytes), VM, VR (4), type, number of
    items, 4 bytes; per item: four lengths of which the second counts, then the text, padded to 4 bytes. The older kind
    lacks the first 8 bytes; of its lengths the first counts, less the number of items of the first field that has any.
    """
    try:
        return _search_csa(header, name.encode())
    except (struct.error, ValueError):  # ends too early, or no number
        return None


def _candidates(dataset: Dataset, groups: tuple[Dataset, ...]) -> Iterator[float | None]:
    """What the places that may hold a b-value hold: None where there is nothing, NaN what cannot be read."""
    for item in _diffusion_items(groups):
        yield _read(item, B_VALUE)
        if read_text(item, DIRECTIONALITY).upper() == "NONE":
            yield 0.0
    for place in (dataset, *groups):
        yield _read(place, B_VALUE)
        if tag := find_private(place, 0x0019, SIEMENS, 0x0C):
            yield _read(place, tag, "IS")
        if tag := find_private(place, 0x0029, SIEMENS_CSA, 0x10):
            yield read_csa_number(read_bytes(place, tag), "B_value")
        if match := _SIEMENS_NAME.search(read_text(place, SEQUENCE_NAME)):
            yield float(match[1])
        if tag := find_private(place, 0x0043, GE, 0x39):
            value = _read(place, tag, "IS")
            yield None if value is None else value % 1e9
        if tag := find_private(place, 0x2001, PHILIPS, 0x03):
            yield _read(place, tag, "FL")
        if tag := find_private(place, 0x0065, UIH, 0x09):
            yield _read(place, tag, "FD")


def _read(place: Dataset, tag: int, vr: str = "") -> float | None:
    number = read_number(place, tag, vr)
    return math.nan if number is None and has_value(place, tag) else number


def _diffusion_items(groups: tuple[Dataset, ...]) -> Iterator[Dataset]:
    for group in groups:
        yield from read_items(group, DIFFUSION)


def _search_csa(header: bytes, name: bytes) -> float | None:
    is_new = header[:4] == b"SV10"
    at = 8 if is_new else 0
    (fields,) = struct.unpack_from("<I", header, at)
    at += 8
    surplus = 0
    for _ in range(min(fields, 1000)):
        found, items = struct.unpack_from("<64s12xi", header, at)
        at += 84
        surplus = surplus or items
        for _ in range(items):
            first, second = struct.unpack_from("<ii", header, at)
            length = second if is_new else first - surplus
            at += 16
            if length < 0 or at + length > len(header):
                break
            if length and found.split(b"\0", 1)[0] == name:
                return float(header[at : at + length].split(b"\0", 1)[0])
            at += (length + 3) // 4 * 4
    return None
