"""What a case's readers said, as numbers: majority, mean and confidence.

A read is a PI-RADS score 1-5, one per reader; below 3 it votes 0, above 3 it votes 1, a 3 votes for neither (Ruppli,
Gori, Ardon, Bloch 2023, arXiv 2308.09542).
"""

from collections.abc import Sequence

UNDECIDED = 3  # PI-RADS 3


def majority(reads: Sequence[int]) -> int | None:
    """Return the label 0 or 1 that more reads vote for; None on an even split or without a vote."""
    positive = sum(read > UNDECIDED for read in reads)
    negative = sum(read < UNDECIDED for read in reads)
    return None if positive == negative else int(positive > negative)


def mean_score(reads: Sequence[int]) -> float | None:
    """Return the mean PI-RADS score, 1 to 5; None where nobody read the case."""
    return sum(reads) / len(reads) if reads else None


def confidence(reads: Sequence[int], rule: str, single_read_confidence: float) -> float:
    """Return how far a case's label is to be trusted, 0 to 1; 0 means that the case counts as unlabelled.

    f is the fraction of all reads that voted for the majority. Rule "paper" (Ruppli et al. 2023): 2 (f - 1/2), never
    below 0, and `single_read_confidence` with one read. Rule "code", that of the authors' release: f. Both give 0
    without a majority. Rule "none", for losses published without a confidence: 1 wherever there is a read.
    """
    if rule == "none":
        return float(bool(reads))
    label = majority(reads)
    if label is None:
        return 0.0
    fraction = sum(read != UNDECIDED and (read > UNDECIDED) == label for read in reads) / len(reads)
    if rule == "code":
        return fraction
    return single_read_confidence if len(reads) == 1 else max(0.0, 2 * (fraction - 0.5))
