"""What a series is and in which plane it lies, from its headers alone."""

import math
import re
from collections.abc import Sequence

from prostafed.client.ingest.records import Header, Kind, Plane, Slice
from prostafed.client.ingest.scan.rules import RULES, Facts

_SAME_PLANE = math.cos(math.radians(10))
_ALONG_AXIS = math.cos(math.radians(45))
_PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # by the axis the normal is nearest to: x, y, z


def classify(header: Header, slices: Sequence[Slice]) -> tuple[Kind, str]:
    """Return what a series is, and the rule that decided, for a person; the rule quotes nothing of the header."""
    b_values = frozenset(each.b_value_s_per_mm2 for each in slices if each.b_value_s_per_mm2 is not None)
    types = frozenset(word for value in header.image_type for word in re.split(r"[\s_]+", value.upper()))
    facts = Facts(header, header.words, types, find_plane(slices), b_values)
    return next(((kind, reason) for kind, reason, holds in RULES if holds(facts)), ("other", "no rule holds"))


def find_plane(slices: Sequence[Slice]) -> Plane:
    """Return the body plane slices lie in: by the patient axis their normal is nearest to, up to 45 degrees off.

    "mixed" where slices differ by more than 10 degrees, "unknown" where none says.
    """
    normals = [normal for each in {each.orientation for each in slices} if (normal := _get_normal(each))]
    if not normals:
        return "unknown"
    first = normals[0]
    if any(abs(sum(a * b for a, b in zip(first, each, strict=True))) < _SAME_PLANE for each in normals):
        return "mixed"
    sizes = [abs(part) for part in first]
    nearest = max(sizes)
    return _PLANES[sizes.index(nearest)] if nearest >= _ALONG_AXIS else "oblique"


def _get_normal(orientation: tuple[float, ...] | None) -> tuple[float, float, float] | None:
    if orientation is None:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    if not (math.isfinite(length) and length > 0.5):  # rows and columns must be nearly perpendicular unit vectors
        return None
    return (normal[0] / length, normal[1] / length, normal[2] / length)
