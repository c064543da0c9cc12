"""Images of b=0 whose header has no b-value, as Canon and Toshiba write them."""

from collections.abc import Iterable
from dataclasses import replace

from prostafed.client.ingest.records import Slice


def mark_unweighted(slices: Iterable[Slice], image_type: Iterable[str]) -> tuple[Slice, ...]:
    """Return the slices of a series, those without a b-value as b=0 where they must be.

    That is where others have one, none of them 0, and lie at the same positions: at half of them at least, as either
    may lack some. A b-value that is there and cannot be read stays unknown, and so do derived images, which may be a
    map.
    """
    every = tuple(slices)
    if "DERIVED" in image_type:
        return every
    bare = {each.position_mm for each in every if _is_bare(each)}
    weighted = {each.position_mm for each in every if each.b_value_s_per_mm2}
    has_zero = any(each.b_value_s_per_mm2 == 0 for each in every)
    if has_zero or not bare or 2 * len((bare & weighted) - {None}) < len(weighted) or not weighted:
        return every
    return tuple(replace(each, b_value_s_per_mm2=0.0) if _is_bare(each) else each for each in every)


def _is_bare(each: Slice) -> bool:
    return each.b_value_s_per_mm2 is None and not each.b_value_garbled
