"""Files that hold an image a second time: the same series, place and pixels, whatever their numbers say.

SOP Instance UIDs alone do not tell: anonymisers write one into every file, and archives give a copy another.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pydicom

from prostafed.client.ingest.records import Header, Slice
from prostafed.client.ingest.scan.instances import Instance
from prostafed.common.shell.quiet import quiet

_PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]


def drop_repeats(instances: Iterable[Instance]) -> list[Instance]:
    """Return the instances without those that repeat an earlier one, in order; what was cut short repeats a whole one
    wherever that stands.

    Pixels are read only of files that agree in series and place, and in SOP Instance UID or instance number. What was
    cut short cannot be compared; there the UID counts.
    """
    given = list(instances)
    kept: list[int] = []
    known: dict[object, list[Instance]] = defaultdict(list)
    digests: dict[Path, str] = {}
    for index in sorted(range(len(given)), key=lambda index: given[index].truncated):
        each = given[index]
        place = _describe_place(each)
        numbers = tuple(one.instance_number for group in each.groups for one in group.slices)
        keys = [(place, numbers), *([(place, each.uid)] if each.uid else [])]
        candidates = [other for key in keys for other in known[key]]
        if not any(_is_same(each, other, digests) for other in candidates):
            kept.append(index)
            for key in keys:
                known[key].append(each)
    return [given[index] for index in sorted(kept)]


def digest_pixels(path: Path) -> str:
    """Return a hash of a file's pixels, decompressed where they can be: an archive hands out one image in several
    compressions. Of a file that cannot be read, its own path.
    """
    try:
        with quiet("pydicom"), path.open("rb") as file:
            dataset = pydicom.dcmread(file, force=True)
            with suppress(Exception):  # not compressed, or no decoder is there
                dataset.decompress(generate_instance_uid=False)
            stored = next(dataset[name].value for name in _PIXELS if name in dataset)
            return hashlib.sha256(stored).hexdigest()
    except Exception:  # pydicom promises no list of what garbage makes it raise
        return str(path)


def _is_same(one: Instance, other: Instance, digests: dict[Path, str]) -> bool:
    if one.truncated or other.truncated:
        return bool(one.uid) and one.uid == other.uid
    for each in (one, other):
        if each.path not in digests:
            digests[each.path] = digest_pixels(each.path)
    return digests[one.path] == digests[other.path]


def _describe_place(instance: Instance) -> object:
    def describe(header: Header, one: Slice) -> tuple[object, ...]:
        kind = header.image_type, header.echo_time_ms, header.component
        place = one.frame, one.position_mm, one.orientation, one.b_value_s_per_mm2, one.acquisition
        return *kind, *place, one.slope, one.intercept

    return instance.series, tuple(describe(group.header, one) for group in instance.groups for one in group.slices)
