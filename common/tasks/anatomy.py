"""Anatomy: the gland and its zones, peripheral (PZ) and transition (TZ); a case counts for what is delineated in it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

from prostafed.common.imaging.cases import MASKS, CaseRecord, Masks
from prostafed.common.metrics.components import largest_component
from prostafed.common.metrics.predictions import CasePrediction
from prostafed.common.metrics.structures import measure_structures
from prostafed.common.models.decoder import MapHead
from prostafed.common.tasks.losses import soft_dice_loss
from prostafed.common.tasks.task import Task

PZ, TZ = 1, 2  # labels of the zones mask, and channels of the logits; channel 0 is everything outside the gland
UNKNOWN = -1  # in targets: not delineated in this case
ANNOTATIONS = ("gland", "zones")


def anatomy_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return what each case costs, (batch,): cross-entropy and soft Dice loss for the gland and for the zones, each
    where the case has it.

    `logits` (batch, 3, z, y, x): outside, PZ, TZ. `target` (batch, ANNOTATIONS, z, y, x): gland 0/1 and zones 0/PZ/TZ,
    UNKNOWN throughout where a case lacks one. The gland is PZ or TZ, so that its probability is their sum: the marginal
    loss of Shi et al. 2021 (Marginal loss and exclusion loss for partially supervised multi-organ segmentation, there
    for a merged background), which lets a case without zones teach where the zones end. Cross-entropy is a mean over
    voxels, Dice one over PZ and TZ. A case without either costs 0.
    """
    log_p = log_softmax(logits, dim=1)
    inside, outside = log_p[:, 1:].logsumexp(dim=1), log_p[:, 0]
    gland, zones = target[:, 0] > 0, target[:, 1].long()
    of_gland = soft_dice_loss(inside.exp(), gland) - torch.where(gland, inside, outside).flatten(start_dim=1).mean(
        dim=1
    )
    overlap = [soft_dice_loss(log_p[:, zone].exp(), zones == zone) for zone in (PZ, TZ)]
    entropy = nll_loss(log_p, zones.clamp_min(0), reduction="none").flatten(start_dim=1).mean(dim=1)
    losses = torch.stack([of_gland, entropy + torch.stack(overlap).mean(dim=0)], dim=1)
    return torch.where(target.flatten(start_dim=2)[:, :, 0] == UNKNOWN, 0.0, losses).sum(dim=1)


def segment(zones: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return labels (z, y, x) 0, PZ, TZ from the probabilities (2, z, y, x) of PZ and TZ.

    The gland is the largest 26-connected component where they sum to 1/2 or more; in it the likelier zone counts.
    """
    gland = largest_component(zones.sum(axis=0) >= 0.5)
    return np.where(gland, PZ + zones.argmax(axis=0), 0).astype(np.uint8)


def build() -> Task:
    """Return the task: encoder, U-Net decoder, softmax over outside, PZ and TZ.

    Says nothing of csPCa: a prediction carries measures per structure alone.
    """
    return Task(
        heads={"head": lambda encoder: MapHead(encoder, outputs=3)},
        usable=lambda record: any(name in record.masks for name in ANNOTATIONS),
        targets=_targets,
        maps=True,
        outputs=lambda network, images: network["head"](network["encoder"](images)),
        loss=lambda logits, target: anatomy_loss(logits.float(), target),
        predict=lambda logits: logits.float().softmax(dim=0)[1:].numpy(force=True),
        assess=_assess,
        teaches_cspca=False,
    )


def _targets(records: Sequence[CaseRecord], masks: Tensor) -> Tensor:
    known = torch.tensor([[name in record.masks for name in ANNOTATIONS] for record in records], device=masks.device)
    drawn = masks[:, [MASKS.index(name) for name in ANNOTATIONS]].float()
    return torch.where(known[:, :, None, None, None], drawn, float(UNKNOWN))


def _assess(
    zones: npt.NDArray[np.float32], record: CaseRecord, masks: Masks, spacing_mm: tuple[float, float, float]
) -> CasePrediction:
    found, true = segment(zones), dict(zip(MASKS, masks, strict=True))
    pairs = {}
    if "gland" in record.masks:
        pairs["gland"] = (found > 0, true["gland"] > 0)
    if "zones" in record.masks:
        pairs |= {name: (found == zone, true["zones"] == zone) for name, zone in (("pz", PZ), ("tz", TZ))}
    return CasePrediction(
        record.case_id, record.patient_id, label=None, score=None, measures=measure_structures(pairs, spacing_mm)
    )
