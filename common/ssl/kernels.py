"""From the reads of a case to a label and a confidence, and from those to the kernel of the conditional loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

UNDECIDED = 3  # PI-RADS 3


def summarise_reads(reads: Sequence[int], rule: str, single_read_confidence: float) -> tuple[int | None, float]:
    """Return (label, confidence in [0, 1]) of a case from its readers' PI-RADS scores.

    A read below 3 votes 0, above 3 votes 1; a 3 is a read that votes for neither. The label is the majority vote and
    f the fraction of all reads that voted for it (Ruppli et al. 2023). Rule "paper": c = 2 (f - 1/2), and
    `single_read_confidence` with one read. Rule "code", that of the authors' release: c = f.
    Without a majority of votes, or where "paper" gives c <= 0, the case is unlabelled: (None, 0).
    """
    positive = sum(read > UNDECIDED for read in reads)
    negative = sum(read < UNDECIDED for read in reads)
    if positive == negative:
        return None, 0.0
    fraction = max(positive, negative) / len(reads)
    confidence = fraction if rule == "code" else single_read_confidence if len(reads) == 1 else 2 * (fraction - 0.5)
    return (int(positive > negative), confidence) if confidence > 0 else (None, 0.0)


def delta_kernel(labels: Sequence[int | None], confidence: Sequence[float]) -> Tensor:
    """Return w (N, N), float64: 1[y_i = y_j] min(c_i, c_j) between labelled cases, else 0. The diagonal is left to the
    loss.
    """
    label = torch.tensor([-1 if value is None else value for value in labels])
    certain = torch.tensor(confidence, dtype=torch.float64)
    same = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    return torch.where(same, torch.minimum(certain[:, None], certain[None, :]), 0.0)
