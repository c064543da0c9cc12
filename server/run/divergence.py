"""When a training loss has left the range where it means anything."""

import math
from collections.abc import Sequence

from prostafed.server.records.lines import RoundLine

FAR = 10.0  # in the units of the loss: cross-entropies and contrastive losses begin below it
TIMES = 3.0  # the size of a loss that begins higher


def has_diverged(losses: Sequence[float]) -> bool:
    """Return whether a site's training losses, means over the rounds of one stage, have diverged by the last of them:
    it is not finite, or further above the first than both FAR and TIMES the first's size.

    So 0.7 has diverged from 10.7 on, 40 from 160 on; a loss that falls, however low, never has. One that had blown up
    before its first round ended is not seen by this, unless it is not finite.
    """
    if not losses:
        return False
    first, last = losses[0], losses[-1]
    return not math.isfinite(last) or last - first > max(FAR, TIMES * abs(first))


def find_diverged(rounds: Sequence[RoundLine], stage: int) -> list[str]:
    """Return the sites that told a loss in the last of these records of `stage` and had diverged by it, sorted."""
    records = [row for row in rounds if row.stage == stage]
    told = records[-1].metrics if records else {}
    return [
        site
        for site in sorted(told)
        if "loss" in told[site]
        and has_diverged([row.metrics[site]["loss"] for row in records if "loss" in row.metrics.get(site, {})])
    ]
