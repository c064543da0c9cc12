"""Which part of the complex signal an image shows: its size (the magnitude), or its phase, real or imaginary part.

Scanners store them under one description, often under one series, and only the magnitude is what a reader calls the
image. Said by ComplexImageComponent (0008,9208), by ImageType or FrameType from their third value on ("P" of Siemens,
"PHASE MAP", "P_SE" and "P" of Philips), and by GE (0043,xx2F).
"""

import re
from collections.abc import Iterable

from pydicom.dataset import Dataset

from prostafed.client.ingest.scan.elements import BLOCKS, find_private, read_number, read_text, read_texts

COMPONENT, IMAGE_TYPE, FRAME_TYPE = 0x0008_9208, 0x0008_0008, 0x0008_9007
GE = ("GEMS_PARM",)
TAGS = (COMPONENT, IMAGE_TYPE, FRAME_TYPE, *(0x0043_002F | block << 8 for block in BLOCKS))

MAGNITUDE = "magnitude"
_OF_GE = dict(enumerate((MAGNITUDE, "phase", "real", "imaginary")))
# Whole values, or their beginning up to "_" or " ": "IN_PHASE" and "OPP_PHASE" of Dixon images are magnitudes.
_VALUE = re.compile(r"(?:(m|mag|magnitude)|(p|phase)|(r|real)|(i|imag|imaginary))(?:[ _].*)?", re.IGNORECASE)
_NAMES = (MAGNITUDE, "phase", "real", "imaginary")


def read_component(dataset: Dataset, places: Iterable[Dataset]) -> str:
    """Return "magnitude", "phase", "real" or "imaginary"; "" where nothing says so.

    `places` are where the frame type of a frame may stand, its own first and `dataset` last: the first that says
    anything decides. Where one place contradicts itself, it is no magnitude.
    """
    for place in places:
        said = {find_component(read_text(place, COMPONENT))}
        said |= {find_component(value) for tag in (FRAME_TYPE, IMAGE_TYPE) for value in read_texts(place, tag)[2:]}
        if place is dataset and (tag := find_private(dataset, 0x0043, GE, 0x2F)):
            said.add(_OF_GE.get(int(read_number(dataset, tag, "SS") or 0), ""))
        if found := said - {""}:
            return min(found, key=lambda name: (name == MAGNITUDE, name))
    return ""


def find_component(value: str) -> str:
    """Return the component that a value of ImageType names; "" where it names none."""
    match = _VALUE.fullmatch(value)
    return _NAMES[(match.lastindex or 1) - 1] if match else ""
