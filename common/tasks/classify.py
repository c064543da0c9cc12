"""Classification: clinically significant cancer (ISUP >= 2) per case; two minutes of a radiologist, or none with
histology.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from prostafed.common.imaging.cases import CaseRecord, Masks
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.heads import ClassificationHead
from prostafed.common.tasks.answer import Answer
from prostafed.common.tasks.task import Task

PRIOR = 0.28  # share of cases with csPCa the untrained head assumes: 425 of 1,500 in PI-CAI


def build() -> Task:
    """Return the task: image vector -> one logit, binary cross-entropy.

    The head starts at PRIOR, so that no step goes to learning how common cancer is.
    """
    return Task(
        heads={"head": lambda encoder: ClassificationHead(encoder.vector_size, PRIOR)},
        usable=lambda record: record.cspca is not None,
        targets=_targets,
        teaches_cspca=True,
        counted=lambda record: (bool(record.cspca),),
        outputs=_outputs,
        channels=("csPCa in the case",),
        loss=lambda logits, target: binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none"),
        predict=lambda logit: logit.float().sigmoid().numpy(force=True),
        assess=_assess,
        read=lambda probability, rule: Answer(float(probability)),
        kind="score",
        metrics=("auroc", "average_precision", "brier"),
        sentence="Scores a study for clinically significant prostate cancer (ISUP >= 2)",
        says="One score in [0, 1] for csPCa (ISUP >= 2) in the case.",
    )


def _targets(records: Sequence[CaseRecord], masks: Tensor) -> Tensor:
    return torch.tensor([float(bool(record.cspca)) for record in records])


def _outputs(network: nn.ModuleDict, images: Tensor) -> Tensor:
    logits: Tensor = network["head"](network["encoder"].describe(images))  # type: ignore[operator]
    return logits


def _assess(
    probability: npt.NDArray[np.float32], record: CaseRecord, masks: Masks, spacing_mm: tuple[float, float, float]
) -> CasePrediction:
    return CasePrediction(record.case_id, record.patient_id, bool(record.cspca), float(probability))
