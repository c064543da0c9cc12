"""Who is asked in a round, and who has been turned away how often."""

from collections.abc import Mapping, Sequence
from typing import Literal

from prostafed.common.seeding import derive_seed
from prostafed.server.exchange.exchange import NOT_NEEDED, Exchange


def draw_participants(
    present: Sequence[str], participants: Literal["all"] | int, seed: int, stage: int, number: int, attempt: int
) -> list[str]:
    """Return the sites a round asks, sorted: all that are there, or `participants` of them.

    Each site's lot depends on its own name alone: who else is there changes nothing but the cut.
    """
    if participants == "all":
        return sorted(present)
    lots = sorted(present, key=lambda site: derive_seed(seed, stage, number, attempt, "participants", site))
    return sorted(lots[:participants])


def count_rejections(before: Mapping[str, int], exchange: Exchange) -> dict[str, int]:
    """Return, by site, the rejections in a row; an accepted reply ends a row, a reply nobody needed changes nothing."""
    counts = {site: count for site, count in before.items() if site not in exchange.replies}
    for entry in exchange.rejections:
        if entry["code"] != NOT_NEEDED:
            counts[entry["site"]] = counts.get(entry["site"], 0) + 1
    return counts
