"""Which images under one SeriesInstanceUID are one stack: they complete each other, and no place is there twice.

Headers differ within one stack (an echo time rounded otherwise from slice to slice, one more word in ImageType), and
agree among several (an acquisition that was repeated). So no difference by itself tells stacks apart: places do.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice, pairwise
from statistics import median
from typing import Any

from prostafed.client.ingest.records import Slice
from prostafed.client.ingest.scan.series import find_normal

SAME_PLACE_MM = 0.1  # along the normal
MAX_GAP_DEVIATION, MAX_GAP_DEVIATION_MM = 0.05, 0.01  # of the median gap, plus the rounding of positions
MAX_DEVIATION = 1e-3  # of cosines, and of the pixel spacing
MAX_HOLE, MAX_HOLES = 3, 0.25  # the widest gap that missing slices leave, in gaps; how many of the gaps may be wide
LEAST_SLICES = 3  # of what is a stack by itself

Place = tuple[int, int | None, float]  # number of the geometry, b-value, height along the normal in mm

# What tells acquisitions apart, the surest first.
_COUNTS: tuple[Callable[[Slice], Any], ...] = (  # numbers, or text; None where the header has none
    lambda one: one.acquisition.number,
    lambda one: one.acquisition.time_position,
    lambda one: one.acquisition.time or None,
)


def join_parts(parts: Sequence[Sequence[Slice]]) -> list[list[int]]:
    """Return which parts are one stack, by index; a part that completes no other stands alone.

    Parts complete each other where none repeats a place of another and their places, per b-value, are those of one
    stack, but for rare holes. A part joins the first it can: give those side by side that resemble each other.
    """
    places = iter(find_places([each for part in parts for each in part]))
    joined: list[tuple[list[int], set[Place]]] = []
    alone: list[list[int]] = []
    for index, part in enumerate(parts):
        own = list(islice(places, len(part)))
        known = {each for each in own if each is not None}
        home = next((one for one in joined if _may_complete(known, one[1])), None)
        if None in own:
            alone.append([index])
        elif home is None:
            joined.append(([index], known))
        else:
            home[0].append(index)
            home[1].update(known)
    for members, taken in joined:
        alone += [members] if is_stack(taken, holes=True) else [[each] for each in members]
    return sorted(alone)


def split_acquisitions(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """Return the acquisitions in `slices`, in order, where they are more than one stack; else all as they are.

    By AcquisitionNumber, else by the position in time, else by the time itself: an acquisition may be counted several
    times (a package of slices, a slice), so that the next begins where a place comes again. What comes out must be
    whole: a regular stack, or one all of whose places another one has, too. A slice at a wrong position splits nothing.
    """
    whole = [tuple(slices)]
    places = [each for each in find_places(slices) if each is not None]
    if len(places) < len(slices):
        return whole
    is_repeated = len(set(places)) < len(places)
    if not is_repeated and is_stack(places, holes=True):
        return whole
    for count in _COUNTS:
        counted = [count(each) for each in slices]
        if None in counted:
            continue
        by_count: dict[Any, list[int]] = defaultdict(list)
        for index, value in enumerate(counted):
            by_count[value].append(index)
        groups = [by_count[value] for value in sorted(by_count)]
        stacks = _stack_up(groups, places) if is_repeated else groups
        taken = [[places[index] for index in stack] for stack in stacks]
        if len(stacks) > 1 and _are_whole(taken, holes=len(stacks) == len(groups)):
            return [tuple(slices[index] for index in sorted(stack)) for stack in stacks]
    return whole


def find_places(slices: Sequence[Slice]) -> list[Place | None]:
    """Return where each slice lies; None where its header does not say.

    Slices of one size, pixel spacing and orientation share a geometry; heights that differ by less than 0.1 mm are one.
    """
    geometries: list[tuple[float, ...]] = []
    known: dict[tuple[float, ...], int] = {}
    found: list[tuple[int, float] | None] = []
    for each in slices:
        geometry, height = _read_geometry(each)
        if height is None:
            found.append(None)
            continue
        if geometry not in known:
            like = (number for number, other in enumerate(geometries) if _is_alike(geometry, other))
            known[geometry] = next(like, len(geometries))
            geometries.append(geometry)
        found.append((known[geometry], height))
    same: dict[tuple[int, float], float] = {}
    last = (-1, -math.inf)
    for number, height in sorted({each for each in found if each is not None}):
        if number != last[0] or height - last[1] > SAME_PLACE_MM:
            last = (number, height)
        same[number, height] = last[1]
    return [
        None if at is None else (at[0], _round(each.b_value_s_per_mm2), same[at])
        for each, at in zip(slices, found, strict=True)
    ]


def is_stack(places: Iterable[Place], *, holes: bool) -> bool:
    """Return whether the places of each b-value are evenly spaced; `holes`: but for those of a few missing slices."""
    heights: dict[tuple[int, int | None], set[float]] = defaultdict(set)
    for geometry, b_value, height in places:
        heights[geometry, b_value].add(height)
    return all(_is_regular(sorted(each), holes) for each in heights.values())


def _is_regular(heights: Sequence[float], holes: bool) -> bool:
    gaps = [after - before for before, after in pairwise(heights)]
    if not gaps:
        return True
    spacing = median(gaps)
    steps = [max(1, round(gap / spacing)) for gap in gaps]
    if any(
        abs(gap - step * spacing) > MAX_GAP_DEVIATION * spacing + MAX_GAP_DEVIATION_MM
        for gap, step in zip(gaps, steps, strict=True)
    ):
        return False
    wide = sum(step > 1 for step in steps)
    return wide == 0 or (holes and max(steps) <= MAX_HOLE and wide <= MAX_HOLES * len(gaps))


def _may_complete(places: Collection[Place], taken: set[Place]) -> bool:
    shared = {each[:2] for each in places} & {each[:2] for each in taken}
    return bool(shared) and taken.isdisjoint(places)


def _stack_up(groups: Sequence[list[int]], places: Sequence[Place]) -> list[list[int]]:
    """Return groups joined, in order, to stacks: another one begins where a place comes again."""
    stacks: list[list[int]] = []
    taken: set[Place] = set()
    for group in groups:
        own = {places[index] for index in group}
        if not stacks or not taken.isdisjoint(own):
            stacks.append([])
            taken = set()
        stacks[-1] += group
        taken |= own
    return stacks


def _are_whole(stacks: Sequence[Sequence[Place]], holes: bool) -> bool:
    if any(len(set(stack)) < len(stack) for stack in stacks):
        return False
    taken = [set(stack) for stack in stacks]
    return all(
        (len(own) >= LEAST_SLICES and is_stack(own, holes=holes))
        or any(own <= other for number, other in enumerate(taken) if number != index)
        for index, own in enumerate(taken)
    )


def _read_geometry(each: Slice) -> tuple[tuple[float, ...], float | None]:
    """Return size, pixel spacing and orientation of a slice, and its height; no height where something is missing."""
    normal = find_normal(each.orientation)
    if normal is None or each.orientation is None or each.position_mm is None or each.pixel_spacing_mm is None:
        return (), None
    height = sum(a * b for a, b in zip(normal, each.position_mm, strict=True))
    geometry = (each.rows, each.columns, *each.pixel_spacing_mm, *each.orientation)
    return geometry, height if math.isfinite(height) and all(map(math.isfinite, geometry)) else None


def _is_alike(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[:2] == other[:2] and all(abs(a - b) <= MAX_DEVIATION for a, b in zip(one[2:], other[2:], strict=True))


def _round(b_value: float | None) -> int | None:
    return None if b_value is None else round(b_value)
