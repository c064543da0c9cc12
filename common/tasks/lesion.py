"""Lesion detection: a map of the probability of clinically significant cancer, scored by candidates as PI-CAI does."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from prostafed.common.imaging.cases import MASKS, CaseRecord, Masks
from prostafed.common.metrics.candidates import extract_candidates
from prostafed.common.metrics.detection import detect
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.models.decoder import MapHead
from prostafed.common.tasks.answer import CANDIDATE, Answer, CandidateRule, FloatVolume, Segment
from prostafed.common.tasks.losses import soft_dice_loss
from prostafed.common.tasks.task import Task

FOCUS = 1.0  # gamma of the focal loss, PI-CAI baseline
LESION_WEIGHT = 0.9  # alpha: of lesion voxels against all others
PRIOR = 0.01  # share of lesion voxels the untrained head assumes
EMPTY = 0.05  # share of lesion voxels that the Dice loss assumes where there is none
MIN_CANDIDATE_MM3 = 7.5  # a candidate is larger than this: PI-CAI's 10 voxels of 3.0 x 0.5 x 0.5 mm
LESION = MASKS.index("lesion")


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the focal loss (Lin et al. 2017) of each case, (batch,), mean over voxels: -alpha_t (1 - p_t)^gamma
    log p_t.
    """
    entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.exp(-entropy)  # probability given to the truth
    weight = torch.where(target > 0, LESION_WEIGHT, 1 - LESION_WEIGHT)
    return (weight * (1 - right) ** FOCUS * entropy).flatten(start_dim=1).mean(dim=1)


def lesion_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return what each case costs, (batch,): focal loss + soft Dice loss; `logits` and `target` (batch, 1, z, y, x).

    Dice says next to nothing of a case without a lesion, and most are without. Its false positives cost what they would
    beside a large lesion, v = EMPTY of the voxels, that is found whole: 1 - 2 v / (2 v + sum p), the Dice loss with
    s = 2 v. Tilborghs et al. 2022 (The Dice loss in the context of missing or empty labels) show that empty cases are
    learnt with sums over a batch or with a large s; only the latter leaves a case's loss its own. With a v of the usual
    lesion's size a site of few cases can learn to say nothing, for good (simulations/experiments/LAB.md).
    """
    voxels = target.flatten(start_dim=1)
    smooth = torch.where(voxels.any(dim=1), 1.0, 2 * EMPTY * voxels.shape[1])
    return focal_loss(logits, target) + soft_dice_loss(logits.sigmoid(), target, smooth)


def build() -> Task:
    """Return the task: encoder, U-Net decoder, focal + Dice loss; the case's score is its best candidate's
    confidence.
    """
    return Task(
        heads={"head": lambda encoder: MapHead(encoder, outputs=1, prior=PRIOR)},
        usable=lambda record: "lesion" in record.masks and record.cspca is not None,
        targets=lambda records, masks: (masks[:, [LESION]] > 0).float(),
        teaches_cspca=True,
        counted=lambda record: (bool(record.cspca),),
        outputs=lambda network, images: network["head"](network["encoder"](images)),
        channels=("csPCa at the voxel",),
        loss=lambda logits, target: lesion_loss(logits.float(), target),
        predict=lambda logits: logits[0].float().sigmoid().numpy(force=True),
        assess=_assess,
        read=_read,
        kind="heat map",
        metrics=("picai_score", "auroc", "lesion_ap", "lesion_sensitivity"),
        sentence="Maps where clinically significant prostate cancer (ISUP >= 2) is likely",
        says="A map of scores in [0, 1] for csPCa (ISUP >= 2).",
        limits=("Lesions of fewer than a few voxels, and cancer that MRI does not show, are missed.",),
    )


def _read(heat: FloatVolume, rule: CandidateRule) -> Answer:
    """The score is that of the metrics, over candidates of any confidence; those below the threshold are not shown."""
    found = extract_candidates(heat, rule.min_voxels, rule.most)
    shown = [each for each in found.confidences if each >= rule.min_confidence]
    segments = tuple(
        Segment(CANDIDATE, f"Lesion candidate {number}", confidence) for number, confidence in enumerate(shown, start=1)
    )
    labels = np.where(found.labels <= len(shown), found.labels, 0).astype(np.uint8)
    return Answer(max(found.confidences, default=0.0), heat=heat, labels=labels, segments=segments)


def _assess(
    detection_map: npt.NDArray[np.float32], record: CaseRecord, masks: Masks, spacing_mm: tuple[float, float, float]
) -> CasePrediction:
    found = detect(detection_map, masks[LESION], min_voxels=int(MIN_CANDIDATE_MM3 / math.prod(spacing_mm)))
    return CasePrediction(
        record.case_id, record.patient_id, bool(record.cspca), found.score, found.detections, found.lesions
    )
