"""What a series is and in which plane it lies, from its headers alone."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from prostafed.client.ingest.records import Header, Kind, Plane, Slice
from prostafed.client.ingest.scan.rules import RULES, Facts

_SAME_PLANE = math.cos(math.radians(10))
_ALONG_AXIS = math.cos(math.radians(45))
_PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # by the axis the normal is nearest to: x, y, z

Normal = tuple[float, float, float]
MAX_OTHER_PLANES = 0.25  # of the images of a series, that are set aside


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
    normals = [normal for each in {each.orientation for each in slices} if (normal := find_normal(each))]
    if not normals:
        return "unknown"
    first = normals[0]
    if not all(_is_parallel(first, each) for each in normals):
        return "mixed"
    sizes = [abs(part) for part in first]
    nearest = max(sizes)
    return _PLANES[sizes.index(nearest)] if nearest >= _ALONG_AXIS else "oblique"


def split_planes(slices: Sequence[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Return the slices of the plane that most lie in, and the few of another one, which show where slices lie.

    They are no few where they are more than a quarter: a localizer has about as many slices in each plane.
    """
    normals = {each.orientation: find_normal(each.orientation) for each in slices}
    counts = Counter(each.orientation for each in slices)
    known = [(orientation, normal) for orientation, normal in normals.items() if normal is not None]

    def list_parallel(normal: Normal) -> set[tuple[float, ...] | None]:
        return {other for other, each in known if _is_parallel(normal, each)}

    planes = [list_parallel(normal) for _, normal in known]
    most = max(planes, key=lambda plane: sum(counts[each] for each in plane), default=set())
    aside = {orientation for orientation, _ in known} - most
    others = [each for each in slices if each.orientation in aside]
    if len(others) > MAX_OTHER_PLANES * len(slices):
        return list(slices), []
    return [each for each in slices if each.orientation not in aside], others


def find_normal(orientation: tuple[float, ...] | None) -> Normal | None:
    """Return the unit vector at right angles to rows and columns; None where they are missing or no directions."""
    if orientation is None:
        return None
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*normal)
    if not (math.isfinite(length) and length > 0.5):  # rows and columns must be nearly perpendicular unit vectors
        return None
    return (normal[0] / length, normal[1] / length, normal[2] / length)


def _is_parallel(one: Normal, other: Normal) -> bool:
    return abs(sum(a * b for a, b in zip(one, other, strict=True))) >= _SAME_PLANE
