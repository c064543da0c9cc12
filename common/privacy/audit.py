"""A lower bound of epsilon from one run: how well the lot of canaries can be told from what came out (Steinke, Nasr,
Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2 and appendix D).
"""

import math
from collections.abc import Sequence

import numpy as np

_SHARES = (1.0, 0.5, 0.2, 0.1, 0.05)  # of the canaries that are guessed about; of the others nothing is said
_STEPS = 40


def audit(planted: Sequence[bool], scores: Sequence[float], delta: float, confidence: float = 0.95) -> float:
    """Return an epsilon that the mechanism does not keep below, at `confidence`; 0 where nothing can be told.

    Each canary took part by a fair lot of its own. Those with the highest scores are guessed to have, those with the
    lowest not to have. Several numbers of guesses are tried, each at its share of the doubt (Bonferroni).
    """
    count = len(planted)
    if not count:
        return 0.0
    order = np.argsort(scores, kind="stable")
    right = np.asarray(planted, dtype=bool)[order]
    doubt, found = (1 - confidence) / len(_SHARES), 0.0
    for share in _SHARES:
        half = max(1, round(share * count / 2))
        low, high = right[:half], right[max(half, count - half) :]
        correct = int((~low).sum() + high.sum())
        found = max(found, bound_epsilon(count, len(low) + len(high), correct, delta, doubt))
    return found


def bound_epsilon(canaries: int, guesses: int, correct: int, delta: float, doubt: float) -> float:
    """Return the largest epsilon at which that many correct guesses, or more, have a probability below `doubt`."""
    low, high = 0.0, 1.0
    if probability(canaries, guesses, correct, (0.0, delta)) >= doubt:
        return 0.0
    while probability(canaries, guesses, correct, (high, delta)) < doubt:
        low, high = high, 2 * high
        if high > 100:
            return low
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if probability(canaries, guesses, correct, (middle, delta)) < doubt else (low, middle)
        )
    return low


def probability(canaries: int, guesses: int, correct: int, privacy: tuple[float, float]) -> float:
    """Return the most that the probability of `correct` right guesses or more can be, of a mechanism that keeps
    `privacy`, its epsilon and delta.
    """
    from scipy.stats import binom

    epsilon, delta = privacy
    rate = 1 / (1 + math.exp(-epsilon))
    found = float(binom.sf(correct - 1, guesses, rate))
    if delta and correct:
        below = np.cumsum(binom.pmf(correct - np.arange(1, correct + 1), guesses, rate))
        found += 2 * canaries * delta * float((below / np.arange(1, correct + 1)).max())
    return min(1.0, found)
