"""Which site does an update come from? The nearest mean of the sites' updates of other rounds, by cosine."""

from collections.abc import Mapping, Sequence

import numpy as np

from prostafed.common.metrics.statistic import FloatArray
from prostafed.common.privacy.attacks.finding import Finding
from prostafed.common.privacy.attacks.interval import share_interval

COORDINATES = 256  # of a random projection


def project(update: FloatArray, seed: int) -> FloatArray:
    """Return a flat update on COORDINATES random directions: each value is added, with a random sign, to one of them
    (feature hashing, Weinberger et al. 2009), which keeps angles in expectation and needs no matrix.
    """
    generator = np.random.default_rng(seed)
    places = generator.integers(COORDINATES, size=update.size)
    signs = generator.integers(0, 2, size=update.size) * 2.0 - 1.0
    found: FloatArray = np.bincount(places, weights=update * signs, minlength=COORDINATES).astype(np.float64)
    return found


def name_origins(variant: str, updates: Mapping[str, Sequence[FloatArray]]) -> Finding:
    """Return how often an update's site is named rightly. `updates`: site -> one per round, as many for each, all of a
    round after the same weights. What a round has in common is taken off; the round in question is left out of the
    means. Raises ValueError for fewer than two sites or rounds.
    """
    names = sorted(updates)
    rounds = len(updates[names[0]]) if names else 0
    if len(names) < 2 or rounds < 2:
        raise ValueError(f"Expected two sites and rounds or more, found {len(names)} and {rounds}.")
    table = np.array([updates[name] for name in names])  # (site, round, coordinate)
    table = table - table.mean(axis=0, keepdims=True)
    table = table / np.maximum(np.linalg.norm(table, axis=2, keepdims=True), 1e-12)
    hits = 0.0
    for number in range(rounds):
        means = np.delete(table, number, axis=1).mean(axis=1)
        means = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        likeness = table[:, number] @ means.T  # (site, candidate)
        for place, row in enumerate(likeness):
            named = np.flatnonzero(row >= row.max() - 1e-12)
            hits += (place in named) / named.size
    share, low, high = share_interval(hits, len(names) * rounds)
    return Finding(
        attack="origin",
        variant=variant,
        measure="updates whose site is named rightly",
        value=share,
        low=low,
        high=high,
        chance=1 / len(names),
        of=f"{len(names)} sites, {rounds} rounds",
    )
