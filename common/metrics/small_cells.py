"""Small cells: no count of fewer than `minimum` patients leaves a table, and neighbouring bins join until each has
enough.

The threshold rule of statistical disclosure control (Hundepool et al. 2012, "Statistical Disclosure Control", chapter
5), for counts. It does not protect against tables that differ by a few patients: publish a table once per cohort, and
tables of parts of it through `list_tellable`.
"""

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

MINIMUM = 10  # patients


def suppress(counts: Mapping[str, int], minimum: int = MINIMUM) -> dict[str, int | None]:
    """Return the counts, in their order, with None for what must not be told.

    1. A count of 1 to minimum - 1 is hidden. A 0 describes nobody and stays.
    2. Since totals are known, what is hidden can be had by subtraction: the smallest count left is hidden as well (a 0
       last of all) until `minimum` patients are, in two counts at least, or everything is.

    Raises ValueError for a negative count or a minimum below 1.
    """
    _check_minimum(minimum)
    if negative := sorted(name for name, count in counts.items() if count < 0):
        raise ValueError(f"Expected counts of 0 or more, found {counts[negative[0]]} for {negative[0]}.")
    hidden = {name for name, count in counts.items() if 0 < count < minimum}
    if hidden:
        for name in sorted(counts, key=lambda each: (counts[each] == 0, counts[each], each)):
            if sum(counts[each] for each in hidden) >= minimum:
                break
            hidden.add(name)
    return {name: None if name in hidden else count for name, count in counts.items()}


def is_small(counts: Iterable[int], minimum: int = MINIMUM) -> bool:
    """Return whether one of `counts` must not be told; if none, all of them may be, and what follows from them."""
    return any(0 < count < minimum for count in counts)


def list_tellable(
    parts: Mapping[str, Mapping[str, int]], whole: Mapping[str, int], minimum: int = MINIMUM
) -> frozenset[str]:
    """Return the names of those `parts` of a cohort whose tables may be told beside the table `whole` of all of it.

    Parts have no patient in common. In none of the told ones is a count small, nor in what is left of the whole without
    any of them; where that does not hold for all, the first ones come first.
    """
    rest, told = dict(whole), set[str]()
    for name, counts in parts.items():
        left = {value: rest[value] - count for value, count in counts.items()}
        if not is_small([*counts.values(), *left.values()], minimum):
            rest |= left
            told.add(name)
    return frozenset(told)


def join_bins(
    bins: npt.NDArray[np.intp], patients: Sequence[Hashable], size: int, minimum: int = MINIMUM
) -> tuple[int, ...] | None:
    """Return where each joined bin starts, () of `size` bins, so that each holds items of `minimum` patients or more.

    `bins` (item,) is each item's bin, 0 to size - 1; `patients` (item,) says whose it is: a patient with many items
    counts once per joined bin. The first start is 0, each bin ends where the next starts, the last at `size`. None
    where all items are of fewer than `minimum` patients: then nothing may be told.

    All bins are cut in two, and each part again, while both parts keep enough patients. The cut is the roundest of the
    boundaries that do, the multiple of the largest power of 2, and not e.g. the first from below: that one would tell
    that somebody scores right beside it.
    """
    _check_minimum(minimum)
    order = np.argsort(bins, kind="stable")
    ordered, whose = bins[order].tolist(), [patients[index] for index in order]
    if len(set(whose)) < minimum:
        return None
    starts, parts = [0], [(0, len(ordered))]
    while parts:
        first, last = parts.pop()
        if last - first < 2 * minimum:
            continue
        lowest = ordered[_reach(whose, range(first, last), minimum)] + 1
        highest = ordered[_reach(whose, range(last - 1, first - 1, -1), minimum)]
        if lowest <= highest:
            starts.append(_roundest(lowest, highest))
            middle = bisect_left(ordered, starts[-1])
            parts += [(first, middle), (middle, last)]
    return tuple(sorted(starts))


def _reach(whose: Sequence[Hashable], items: range, minimum: int) -> int:
    """Return the item, in the order of `items`, with which they are of `minimum` patients."""
    met = set[Hashable]()
    for item in items:
        met.add(whose[item])
        if len(met) == minimum:
            return item
    raise AssertionError("every part holds enough patients")


def _roundest(lowest: int, highest: int) -> int:
    """Return the multiple of the largest power of 2 from `lowest`, 1 or more, to `highest`; there is only one."""
    power = 1 << highest.bit_length()
    while power * -(-lowest // power) > highest:
        power //= 2
    return power * -(-lowest // power)


def _check_minimum(minimum: int) -> None:
    if minimum < 1:
        raise ValueError(f"Expected a minimum of at least 1 patient, found {minimum}.")
