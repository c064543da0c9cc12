"""When a training loss has left the range where it means anything."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

FAR = 10.0


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a site's training losses, by round of one stage, have diverged by the last of them: it is not
    finite, or further above the first than FAR times the first's size, a first loss below 1 counted as 1.

    So 0.7 has diverged from 10.7 on, 40 from 440 on; a loss that falls, however low, never has. That is far beyond what
    any method here does while it learns (all begin within a few units of their loss's own scale), and far below the
    1e12 of a learning rate that is too high.
    """
    if not losses:
        return False
    first, last = losses[0], losses[-1]
    return not math.isfinite(last) or last - first > FAR * max(1.0, abs(first))


def find_diverged(rounds: Sequence[Mapping[str, Any]], stage: int) -> list[str]:
    """Return the sites whose loss has diverged by the last of these round records that is of `stage`, sorted."""
    records = [row for row in rounds if row["stage"] == stage]
    told = records[-1]["metrics"] if records else {}
    return [
        site
        for site in sorted(told)
        if has_diverged([row["metrics"][site]["loss"] for row in records if "loss" in row["metrics"].get(site, {})])
    ]
