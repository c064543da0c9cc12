"""Which diffusion images may be fitted together: those of one echo time, one repetition time and one set of positions.

Signals fall with the echo time and grow with the repetition time as they fall with b: a fit over images that differ in
either takes T2 and T1 for diffusion, and one over images of different places compares one tissue with another.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isclose
from statistics import median, multimode

import numpy as np
import SimpleITK as sitk

from prostafed.client.findings import Severity, SourceError
from prostafed.client.ingest.records import Slice
from prostafed.client.ingest.scan.stacks import join_parts

MAX_TIME_DEVIATION = 0.01  # of an echo or repetition time, as headers round them: it moves an ADC by less than 10
MAX_TRIGGER_STEP = 0.1  # of repetition times of one b-value in order: those of two protocols lie further apart
MAX_CORNER_DEVIATION_MM = 0.1


def split_exposures(slices: Iterable[Slice]) -> list[tuple[Slice, ...]]:
    """Return slices in groups of one echo time and one repetition time, the largest first.

    Repetition times are compared by their median at each b-value: a trigger makes them vary from image to image. Times
    that differ from slice to slice of one stack tell no groups apart either: no voxel has signals of both.
    """
    parts: list[list[Slice]] = []  # of one b-value each
    for each in sorted(slices, key=lambda one: one.repetition_time_ms or 0.0):
        for part in parts:
            near = replace(part[0], repetition_time_ms=part[-1].repetition_time_ms)
            if _round_b_value(near) == _round_b_value(each) and not find_difference(near, each, MAX_TRIGGER_STEP):
                part.append(each)
                break
        else:
            parts.append([each])
    groups: list[list[Slice]] = []
    for part in parts:
        for group in groups:
            if not find_difference(sum_up_times(group), sum_up_times(part)):
                group.extend(part)
                break
        else:
            groups.append(part)
    groups.sort(key=lambda group: (-len(group), group[0].echo_time_ms or 0.0, group[0].repetition_time_ms or 0.0))
    stacks = join_parts([[replace(each, b_value_s_per_mm2=None) for each in group] for group in groups])
    joined = [tuple(each for member in stack for each in groups[member]) for stack in stacks]
    return sorted(joined, key=len, reverse=True)


def sum_up_times(slices: Sequence[Slice]) -> Slice:
    """Return the first of slices of one b-value with the median of their repetition times."""
    known = [each.repetition_time_ms for each in slices if each.repetition_time_ms is not None]
    return replace(slices[0], repetition_time_ms=median(known) if known else None)


def find_difference(one: Slice, other: Slice, max_repetition: float = MAX_TIME_DEVIATION) -> str:
    """Return in which time two slices differ, for a person: "" in none. A time that only one of them tells differs.

    Repetition times may differ by a share of `max_repetition`.
    """
    for name, first, second, most in (
        ("echo time", one.echo_time_ms, other.echo_time_ms, MAX_TIME_DEVIATION),
        ("repetition time", one.repetition_time_ms, other.repetition_time_ms, max_repetition),
    ):
        if first is None or second is None:
            if first is not second:
                return name
        elif not isclose(first, second, rel_tol=most):
            return name
    return ""


def share_grid(first: sitk.Image, second: sitk.Image) -> bool:
    """Return whether two images have the same voxels, within a tenth of a millimetre at every corner."""
    if first.GetSize() != second.GetSize():
        return False
    last = np.array(first.GetSize()) - 1
    corners = [(last * side).tolist() for side in np.ndindex(2, 2, 2)]
    apart = [
        np.subtract(first.TransformIndexToPhysicalPoint(corner), second.TransformIndexToPhysicalPoint(corner))
        for corner in corners
    ]
    return bool(np.abs(apart).max() <= MAX_CORNER_DEVIATION_MM)


def lies_within(part: sitk.Image, whole: sitk.Image) -> bool:
    """Return whether `part` has the voxels of some neighbouring slices of `whole`, not of all."""
    first = round(whole.TransformPhysicalPointToContinuousIndex(part.GetOrigin())[2])
    depth = part.GetSize()[2]
    if not 0 <= first <= whole.GetSize()[2] - depth or depth == whole.GetSize()[2]:
        return False
    return share_grid(part, whole[:, :, first : first + depth])


def count_positions(slices: Iterable[Slice]) -> int:
    """Return at how many positions slices lie."""
    return len({each.position_mm for each in slices})


def expect_positions(groups: Iterable[Iterable[Slice]]) -> int:
    """Return at how many positions most of `groups` lie; of numbers as frequent, the highest."""
    return max(multimode(count_positions(group) for group in groups), default=0)


def explain_interruption(b_values: str, found: int, expected: int, severity: Severity) -> SourceError:
    """Return what to say of b-values of which fewer slices were saved than of the others."""
    done = "is used only where nothing can stand in for it" if severity == "W" else "is left out"
    return SourceError(
        "MISSING_SLICE",
        f"expected {expected} slices at every b-value, found {found} at b={b_values}, which {done}; export the whole "
        "series again from the scanner or the archive.",
        severity,
    )


def _round_b_value(one: Slice) -> int | None:
    return None if one.b_value_s_per_mm2 is None else round(one.b_value_s_per_mm2)
