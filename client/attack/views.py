"""How alike an encoder finds augmented views of one case: more so for a case it was trained on.

EncoderMI (Liu et al. 2021), by threshold. It needs no label and no head: all that is asked is the encoder, which is
what the coordinator and every other hospital hold.
"""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from prostafed.client.training.feed import Feed
from prostafed.common.imaging.augment import CONTRASTIVE, apply_augmentation, draw_augmentation
from prostafed.common.seeding import derive_seed

VIEWS = 6  # of a case


@torch.no_grad()
def measure_likeness(network: nn.ModuleDict, feed: Feed, seed: int) -> list[tuple[str, float]]:
    """Return (patient, mean cosine between VIEWS views) for each case of `feed`; what is drawn for a case follows from
    `seed` and its place.
    """
    network.to(feed.device).eval()
    encoder: Any = network["encoder"]
    found = []
    for position in range(len(feed.chosen)):
        batch = feed.load([position], masks=False)
        generator = Generator().manual_seed(derive_seed(seed, position))
        drawn = draw_augmentation(VIEWS, batch.spacing_mm, generator, CONTRASTIVE)
        vectors = encoder.describe(apply_augmentation(batch.images.expand(VIEWS, -1, -1, -1, -1), drawn))
        found.append((batch.records[0].patient_id, _mean_cosine(vectors)))
    return found


def _mean_cosine(vectors: Tensor) -> float:
    """Return the mean cosine of two different ones of `vectors` (view, value)."""
    unit = normalize(vectors.double(), dim=1)
    pairs = len(unit) * (len(unit) - 1)
    return float((unit.sum(dim=0).square().sum() - len(unit)) / pairs)
