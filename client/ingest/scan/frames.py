"""One image file as slices: a classic file is one, an enhanced multi-frame file one per frame, of one kind or several.

What holds for a frame stands in its own item of the functional groups (5200,9230), else in the shared one (5200,9229),
else, in classic files and in those of writers who mix, at the top of the dataset.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from prostafed.client.ingest.records import Acquisition, Slice, Stored
from prostafed.client.ingest.scan import b_values, components
from prostafed.client.ingest.scan.elements import (
    read_integer,
    read_items,
    read_number,
    read_numbers,
    read_text,
    read_texts,
)

PER_FRAME, SHARED, NUMBER_OF_FRAMES = 0x5200_9230, 0x5200_9229, 0x0028_0008
POSITION, ORIENTATION, PIXEL_SPACING = 0x0020_0032, 0x0020_0037, 0x0028_0030
SLOPE, INTERCEPT, IMAGE_TYPE, FRAME_TYPE = 0x0028_1053, 0x0028_1052, 0x0008_0008, 0x0008_9007
ECHO_TIME, EFFECTIVE_ECHO_TIME, REPETITION_TIME = 0x0018_0081, 0x0018_9082, 0x0018_0080
REAL_WORLD, REAL_WORLD_SLOPE, REAL_WORLD_INTERCEPT = 0x0040_9096, 0x0040_9225, 0x0040_9224
SOP_INSTANCE, INSTANCE_NUMBER, ROWS, COLUMNS = 0x0008_0018, 0x0020_0013, 0x0028_0010, 0x0028_0011
THICKNESS = 0x0018_0050
PHOTOMETRIC, FRAME_OF_REFERENCE = 0x0028_0004, 0x0020_0052
BITS, BITS_STORED, SIGNED = 0x0028_0100, 0x0028_0101, 0x0028_0103
WHOLE_PADDING, FLOAT_PADDING = (0x0028_0120, 0x0028_0121), (0x0028_0122, 0x0028_0124)  # value, range limit
DOUBLE_PADDING = (0x0028_0123, 0x0028_0125)
ACQUISITION, FRAME_ACQUISITION, TIME_POSITION, FRAME_TIME_POSITION = 0x0020_0012, 0x0020_9156, 0x0020_0100, 0x0020_9128
ACQUIRED, ACQUISITION_DATE, ACQUISITION_TIME, FRAME_ACQUIRED = 0x0008_002A, 0x0008_0022, 0x0008_0032, 0x0018_9074
FRAME_CONTENT = 0x0020_9111

# Sequences of the functional groups in which the elements above stand.
_MACROS = {
    POSITION: 0x0020_9113,
    ORIENTATION: 0x0020_9116,
    PIXEL_SPACING: 0x0028_9110,
    THICKNESS: 0x0028_9110,
    SLOPE: 0x0028_9145,
    INTERCEPT: 0x0028_9145,
    FRAME_TYPE: 0x0018_9226,
    EFFECTIVE_ECHO_TIME: 0x0018_9114,
    REPETITION_TIME: 0x0018_9112,
    REAL_WORLD_SLOPE: REAL_WORLD,
    REAL_WORLD_INTERCEPT: REAL_WORLD,
    FRAME_ACQUISITION: FRAME_CONTENT,
    FRAME_TIME_POSITION: FRAME_CONTENT,
    FRAME_ACQUIRED: FRAME_CONTENT,
}
TAGS = (*_MACROS, *_MACROS.values(), *(PER_FRAME, SHARED, NUMBER_OF_FRAMES, IMAGE_TYPE, ECHO_TIME, REAL_WORLD))
TAGS += (SOP_INSTANCE, INSTANCE_NUMBER, ROWS, COLUMNS, PHOTOMETRIC, FRAME_OF_REFERENCE, BITS, BITS_STORED, SIGNED)
TAGS += (*WHOLE_PADDING, *FLOAT_PADDING, *DOUBLE_PADDING)
TAGS += (*components.TAGS, ACQUISITION, TIME_POSITION, ACQUIRED, ACQUISITION_DATE, ACQUISITION_TIME)


@dataclass(frozen=True)
class Frame:
    """One frame of a file: its slice, and what tells the series in a file apart."""

    slice: Slice
    image_type: tuple[str, ...]
    echo_time_ms: float | None
    component: str  # "phase", "real" or "imaginary"; "" for a magnitude, and where nothing says so
    groups: tuple[Dataset, ...]  # functional groups, its own first


def read_frames(dataset: Dataset, path: Path, stored: Stored | None = None) -> Iterator[Frame]:
    """Yield the frames of a dataset, pixels unread: as many as it describes, one where it describes none.

    `stored` is where the first one's pixels lie in the file; None where they must be decoded.
    """
    own = read_items(dataset, PER_FRAME)
    shared = tuple(read_items(dataset, SHARED)[:1])
    count = read_integer(dataset, NUMBER_OF_FRAMES, 1)
    for index in range(max(1, len(own) if count is None else min(count, len(own)))):
        groups = (own[index], *shared) if index < len(own) else shared
        frame = _read_frame(dataset, path, index, groups)
        if stored:
            size = frame.slice.rows * frame.slice.columns * int(stored.kind[-1])
            place = replace(stored, offset=stored.offset + index * size)
            frame = replace(frame, slice=replace(frame.slice, stored=place))
        yield frame


def find_numbers(dataset: Dataset, groups: Sequence[Dataset], tag: int) -> tuple[float, ...]:
    """Return the numbers of an element of a frame, from where they hold; () where there are none."""
    for place in _places(dataset, groups, tag):
        if numbers := read_numbers(place, tag):
            return numbers
    return ()


def find_number(dataset: Dataset, groups: Sequence[Dataset], tag: int) -> float | None:
    """Return the first finite number of an element of a frame, from where it holds; None where there is none."""
    numbers = (read_number(place, tag) for place in _places(dataset, groups, tag))
    return next((number for number in numbers if number is not None), None)


def _read_frame(dataset: Dataset, path: Path, index: int, groups: tuple[Dataset, ...]) -> Frame:
    position = find_numbers(dataset, groups, POSITION)
    orientation = find_numbers(dataset, groups, ORIENTATION)
    spacing = find_numbers(dataset, groups, PIXEL_SPACING)
    slope, intercept = _read_rescale(dataset, groups)
    echo_time_ms = find_number(dataset, groups, EFFECTIVE_ECHO_TIME)
    if echo_time_ms is None:
        echo_time_ms = read_number(dataset, ECHO_TIME)
    plane = Slice(
        path=path,
        frame=index,
        instance_uid=read_text(dataset, SOP_INSTANCE),
        instance_number=None if groups else read_integer(dataset, INSTANCE_NUMBER),
        rows=read_integer(dataset, ROWS) or 0,
        columns=read_integer(dataset, COLUMNS) or 0,
        position_mm=(position[0], position[1], position[2]) if len(position) == 3 else None,
        orientation=orientation if len(orientation) == 6 else None,
        pixel_spacing_mm=(spacing[0], spacing[1]) if len(spacing) == 2 else None,
        b_value_s_per_mm2=b_values.read_b_value(dataset, *groups),
        directional=b_values.is_directional(dataset, *groups),
        slope=slope,
        intercept=intercept,
        padding=_read_padding(dataset),
        inverted=read_text(dataset, PHOTOMETRIC).upper() == "MONOCHROME1",
        echo_time_ms=echo_time_ms,
        repetition_time_ms=find_number(dataset, groups, REPETITION_TIME),
        frame_of_reference=read_text(dataset, FRAME_OF_REFERENCE),
        b_value_garbled=b_values.is_garbled(dataset, *groups),
        acquisition=_read_acquisition(dataset, groups),
    )
    frame_type = [read_texts(place, FRAME_TYPE) for place in _places(dataset, groups, FRAME_TYPE)]
    image_type = next(filter(None, frame_type), ()) or read_texts(dataset, IMAGE_TYPE)
    component = components.read_component(dataset, _places(dataset, groups, FRAME_TYPE))
    return Frame(plane, image_type, echo_time_ms, "" if component == components.MAGNITUDE else component, groups)


def _read_acquisition(dataset: Dataset, groups: Sequence[Dataset]) -> Acquisition:
    number = find_number(dataset, groups, FRAME_ACQUISITION)
    position = find_number(dataset, groups, FRAME_TIME_POSITION)
    times = [read_text(place, FRAME_ACQUIRED) for place in _places(dataset, groups, FRAME_ACQUIRED)]
    times.append(read_text(dataset, ACQUIRED))
    times.append(read_text(dataset, ACQUISITION_DATE) + read_text(dataset, ACQUISITION_TIME))
    return Acquisition(
        number=read_number(dataset, ACQUISITION) if number is None else number,
        time_position=read_number(dataset, TIME_POSITION) if position is None else position,
        time=next(filter(None, times), ""),
    )


def _read_rescale(dataset: Dataset, groups: Sequence[Dataset]) -> tuple[float, float]:
    """Slope and intercept; of the real-world map only where there is no other, as makers of parametric maps do."""
    for slope_tag, intercept_tag in ((SLOPE, INTERCEPT), (REAL_WORLD_SLOPE, REAL_WORLD_INTERCEPT)):
        slope, intercept = (_read_factor(dataset, groups, tag) for tag in (slope_tag, intercept_tag))
        if slope is not None or intercept is not None:
            return 1.0 if slope is None else slope, intercept or 0.0
    return 1.0, 0.0


def _read_factor(dataset: Dataset, groups: Sequence[Dataset], tag: int) -> float | None:
    """The number of an element where it holds for a frame: NaN where it is there and is not one number."""
    for place in _places(dataset, groups, tag):
        if tag in place:
            numbers = read_numbers(place, tag)
            return numbers[0] if len(numbers) == 1 else math.nan
    return None


def _read_padding(dataset: Dataset) -> tuple[float, float] | None:
    """The stored values, from and to, that stand where no image was made; None where the header names none.

    Of whole pixels only the bits that are stored count, with the sign of the pixels: writers give -2000 as 63536 (US),
    and fill 16 bits where 12 are stored.
    """
    for pair, vr in ((WHOLE_PADDING, "US"), (FLOAT_PADDING, "FL"), (DOUBLE_PADDING, "FD")):
        value, limit = (read_number(dataset, tag, vr) for tag in pair)
        if value is not None:
            ends = (value, value if limit is None else limit)
            if pair == WHOLE_PADDING:
                ends = (_as_stored(dataset, ends[0]), _as_stored(dataset, ends[1]))
            return min(ends), max(ends)
    return None


def _as_stored(dataset: Dataset, value: float) -> float:
    bits = read_integer(dataset, BITS_STORED) or read_integer(dataset, BITS) or 16
    bits = min(max(bits, 1), 64)  # garbage may say billions
    pattern = int(value) & ((1 << bits) - 1)
    return float(pattern - (1 << bits) if read_integer(dataset, SIGNED) and pattern >> (bits - 1) else pattern)


def _places(dataset: Dataset, groups: Sequence[Dataset], tag: int) -> Iterator[Dataset]:
    for group in groups:
        yield from read_items(group, _MACROS[tag])[:1]
    if tag in (REAL_WORLD_SLOPE, REAL_WORLD_INTERCEPT):
        yield from read_items(dataset, REAL_WORLD)[:1]
    yield dataset
