"""Where the pixels of an image file lie, and whether the file ends before they do: from lengths alone."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import FileDataset
from pydicom.uid import UID

from prostafed.client.ingest.records import Stored
from prostafed.client.ingest.scan.elements import read_integer, read_text

TRANSFER_SYNTAX, MEDIA_CLASS, SOP_CLASS = 0x0002_0010, 0x0002_0002, 0x0008_0016
FRAMES, SAMPLES = 0x0028_0008, 0x0028_0002
ROWS, COLUMNS = 0x0028_0010, 0x0028_0011
BITS, BITS_STORED, HIGH_BIT, SIGNED = 0x0028_0100, 0x0028_0101, 0x0028_0102, 0x0028_0103
TAGS = (SOP_CLASS, FRAMES, SAMPLES, ROWS, COLUMNS, BITS, BITS_STORED, HIGH_BIT, SIGNED)

MR_CLASSES = (  # MR, enhanced MR, converted MR
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
)
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"  # holds pixels though its name says no image
_PLAIN = ("", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1")  # transfer syntaxes: uncompressed, little endian
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNDEFINED = 0xFFFF_FFFF
_PIXEL_DATA, _ITEM, _DELIMITER = 0x7FE0_0010, 0xFFFE_E000, 0xFFFE_E0DD


@dataclass(frozen=True)
class Located:
    """What lengths say of a file's pixels."""

    truncated: bool
    stored: Stored | None = None  # where the first frame lies, where its pixels need no decoding
    present: bool = True  # whether there are pixels at all


def locate_pixels(file: BinaryIO, dataset: FileDataset, size: int) -> Located:
    """Return where the pixels of a file of `size` bytes lie that pydicom read up to them, and whether some are missing.

    `file` stands where pydicom stopped: at the element of the pixels, or at the end. A deflated file that was cut could
    not be inflated at all, and needs no look: its class says whether there are pixels.
    """
    syntax = read_text(dataset.file_meta, TRANSFER_SYNTAX)
    if syntax == _DEFLATED:
        return Located(truncated=False, present=_must_have_pixels(dataset))
    at = file.tell()
    start = file.read(12)
    order = ">" if dataset.original_encoding[1] is False else "<"
    group, element = struct.unpack_from(order + "HH", start) if len(start) == 12 else (0, 0)
    if group != _PIXEL_DATA >> 16:
        return Located(truncated=_must_have_pixels(dataset), present=False)
    is_explicit = start[4:6] in (b"OW", b"OB", b"UN", b"OF", b"OD")  # read as a length, each would be odd
    length = int(struct.unpack_from(order + "L", start, 8 if is_explicit else 4)[0])
    offset = at + (12 if is_explicit else 8)
    if length == _UNDEFINED:
        file.seek(offset)
        return Located(truncated=_count_fragments(file) < (read_integer(dataset, FRAMES) or 1))
    if length > size - offset or length < _expect_length(dataset):
        return Located(truncated=True)
    is_plain = syntax in _PLAIN and order == "<" and element == _PIXEL_DATA & 0xFFFF
    return Located(truncated=False, stored=_describe(dataset, offset) if is_plain else None)


def _must_have_pixels(dataset: FileDataset) -> bool:
    """Whether a file without pixels was cut off before them: of the class of an image, or of none and with rows.

    Spectroscopy, presentation states, raw data and private objects have no pixels, whatever else they have.
    """
    # The first of the two in the file: a file that was cut may hold half of the other.
    uid = read_text(dataset.file_meta, MEDIA_CLASS) or read_text(dataset, SOP_CLASS)
    if not uid:
        return ROWS in dataset
    return uid == _PARAMETRIC_MAP or "Image Storage" in UID(uid).name


def _expect_length(dataset: FileDataset) -> int:
    """Bytes of uncompressed grey pixels; 0 where the header does not say, or for colour, which may be subsampled."""
    factors = [read_integer(dataset, tag) for tag in (ROWS, COLUMNS, BITS)]
    if (read_integer(dataset, SAMPLES) or 1) != 1 or None in factors:
        return 0
    rows, columns, bits = (factor or 0 for factor in factors)
    return (rows * columns * bits * (read_integer(dataset, FRAMES) or 1) + 7) // 8


def _describe(dataset: FileDataset, offset: int) -> Stored | None:
    """How grey pixels of whole bytes are stored; None where they are neither."""
    bits = read_integer(dataset, BITS)
    used, signed = read_integer(dataset, BITS_STORED, bits), read_integer(dataset, SIGNED)
    if bits not in (8, 16, 32) or used is None or not 0 < used <= bits or signed not in (0, 1):
        return None
    if read_integer(dataset, SAMPLES, 1) != 1 or read_integer(dataset, HIGH_BIT, used - 1) != used - 1:
        return None
    return Stored(offset, f"{'<' if bits > 8 else '|'}{'i' if signed else 'u'}{bits // 8}", used)


def _count_fragments(file: BinaryIO) -> int:
    """Fragments of compressed pixels, the table of offsets left out; -1 where they end before their delimiter."""
    fragments = -1
    while len(start := file.read(8)) == 8:
        first, second, length = struct.unpack("<HHL", start)
        tag = first << 16 | second
        if tag == _DELIMITER:
            return fragments
        if tag != _ITEM:
            return -1
        fragments += 1
        file.seek(length, 1)
    return -1
