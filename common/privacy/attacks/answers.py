"""What is told of evaluated patients, attacked: the difference of two answers, and the cells of a histogram."""

from collections.abc import Sequence

import numpy as np

from prostafed.common.metrics.histograms import ScoreHistogram
from prostafed.common.privacy.attacks.finding import Finding
from prostafed.common.privacy.attacks.interval import share_interval

ROUNDING = 1e-9  # below it two candidates are alike: figures leave with all their digits


def subtract_answers(site: str, contributions: Sequence[float]) -> Finding:
    """Return how often the patient whom two means differ in is named rightly, each of the patients in turn.

    `contributions` (patient,) is what each adds to the mean that leaves, which an attacker with the model and their
    images can compute, e.g. squared errors for the Brier score. n m - (n - 1) m' is the missing patient's own; the
    candidate nearest to it is named, by lot among those that are alike. Raises ValueError for fewer than two.
    """
    values = np.asarray(contributions, dtype=np.float64)
    if values.size < 2:
        raise ValueError(f"Expected two patients or more, found {values.size}.")
    told = values.mean()
    hits = 0.0
    for index in range(values.size):
        without = np.delete(values, index).mean()
        found = values.size * told - (values.size - 1) * without
        distance = np.abs(values - found)
        named = np.flatnonzero(distance <= distance.min() + ROUNDING)
        hits += (index in named) / named.size
    share, low, high = share_interval(hits, values.size)
    return Finding(
        attack="differencing",
        variant="mean of n, less mean of n - 1",
        site=site,
        measure="patients named rightly",
        value=share,
        low=low,
        high=high,
        chance=1 / values.size,
        of=f"{values.size} test patients",
    )


def read_cells(site: str, histogram: ScoreHistogram) -> Finding | None:
    """Return the share of test patients who lie in a cell of one label only, so that their label follows from their
    score; None for an empty histogram. `of` names the smallest cell, and how many hold a single patient.

    Chance is the share there would be if all patients were in one cell: none, unless all have the same label.
    """
    cells = [
        (positives, negatives)
        for positives, negatives in zip(histogram.positives, histogram.negatives, strict=True)
        if positives + negatives
    ]
    count = sum(map(sum, cells))
    if not count:
        return None
    pinned = sum(sum(cell) for cell in cells if 0 in cell)
    share, low, high = share_interval(pinned, count)
    alike = 0 in (sum(histogram.positives), sum(histogram.negatives))
    alone = sum(sum(cell) == 1 for cell in cells)
    return Finding(
        attack="histograms",
        variant=f"smallest cell {min(map(sum, cells))}, cells of one case {alone}",
        site=site,
        measure="cases whose label follows from their cell",
        value=share,
        low=low,
        high=high,
        chance=float(alike),
        of=f"{count} test cases in {len(cells)} cells",
    )
