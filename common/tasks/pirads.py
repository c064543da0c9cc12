"""PI-RADS as reports give it: the votes of all readers of a case are learnt as a distribution over ordered grades."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from prostafed.common.imaging.cases import CaseRecord, Masks
from prostafed.common.metrics.measure import Measure
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.heads import OrdinalHead
from prostafed.common.tasks.answer import Answer, CandidateRule, Quantity
from prostafed.common.tasks.task import Task

THRESHOLDS = (3, 4, 5)  # grades <= 2 are one: centres differ in whether a negative study is a 1 or a 2
PRIORS = (884 / 1500, 733 / 1500, 381 / 1500)  # share of PI-CAI studies whose highest PI-RADS reaches each threshold
SUSPICIOUS = THRESHOLDS.index(4)


def count_votes(reads: Sequence[int]) -> list[float]:
    """Return the share of readers who gave at least each of THRESHOLDS, in falling order; needs one read or more."""
    return [sum(read >= threshold for read in reads) / len(reads) for threshold in THRESHOLDS]


def ordinal_loss(logits: Tensor, votes: Tensor) -> Tensor:
    """Return what each case costs, (batch,): -sum_k [v_k log p_k + (1 - v_k) log(1 - p_k)], with p_k = sigmoid of the
    logit that the grade reaches threshold k.

    `logits` and `votes` (batch, thresholds), votes in [0, 1]. The CORAL loss (Cao, Mirjalili, Raschka 2020) with the
    share of votes where theirs has 0 or 1, which is its mean over a case's readers.
    """
    return binary_cross_entropy_with_logits(logits, votes, reduction="none").sum(dim=1)


def ranked_probability_score(cumulative: npt.ArrayLike, votes: npt.ArrayLike) -> float:
    """Return the mean over thresholds of the squared difference of P(grade >= k) and the share of votes, 0 best, 1
    worst.

    Epstein 1969, divided by the number of thresholds: calibration against the readers, not against histology.
    """
    return float(np.mean((np.asarray(cumulative, dtype=np.float64) - np.asarray(votes, dtype=np.float64)) ** 2))


def build() -> Task:
    """Return the task: image vector -> cumulative logits, ordinal loss on the votes.

    A case's score for csPCa is the probability of PI-RADS >= 4: AUROC and average precision against histology, where it
    is known, are those of a model that never saw it. It ranks; as a probability of csPCa it is too high.
    """
    return Task(
        heads={"head": lambda encoder: OrdinalHead(encoder.vector_size, PRIORS)},
        usable=lambda record: bool(record.pirads_reads),
        targets=lambda records, masks: torch.tensor([count_votes(record.pirads_reads) for record in records]),
        teaches_cspca=False,
        counted=_count_grades,
        outputs=_outputs,
        channels=tuple(f"PI-RADS >= {threshold}" for threshold in THRESHOLDS),
        loss=lambda logits, votes: ordinal_loss(logits.float(), votes.to(logits.device)),
        predict=lambda logits: logits.float().sigmoid().numpy(force=True),
        assess=_assess,
        read=_read,
        kind="score",
        metrics=("auroc", "pirads_rps"),
        measures={
            "pirads_rps": Measure(
                "PI-RADS ranked probability score",
                "squared distance of the predicted PI-RADS distribution from the readers' votes, 0 is perfect",
                higher_is_better=False,
            )
        },
        sentence="Scores a study for the PI-RADS category that readers would give",
        says="The share of readers who would give PI-RADS >= 3, >= 4 and >= 5. It was not learnt from histology.",
    )


def _read(cumulative: npt.NDArray[np.float32], rule: CandidateRule) -> Answer:
    shares = tuple(
        Quantity(f"pirads_{grade}", f"Score of PI-RADS {grade} or higher", float(share))
        for grade, share in zip(THRESHOLDS, cumulative, strict=True)
    )
    return Answer(float(cumulative[SUSPICIOUS]), shares)


def _count_grades(record: CaseRecord) -> list[bool]:
    """Return whether any, and whether every reader gave at least each of THRESHOLDS."""
    votes = count_votes(record.pirads_reads)
    return [*(share > 0 for share in votes), *(share == 1 for share in votes)]


def _outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
    logits: Tensor = network["head"](network["encoder"].describe(images))  # type: ignore[operator]
    return logits


def _assess(
    cumulative: npt.NDArray[np.float32], record: CaseRecord, masks: Masks, spacing_mm: tuple[float, float, float]
) -> CasePrediction:
    distance = ranked_probability_score(cumulative, count_votes(record.pirads_reads))
    return CasePrediction(
        record.case_id,
        record.patient_id,
        label=record.cspca,
        score=float(cumulative[SUSPICIOUS]),
        measures={"pirads_rps": distance},
    )
