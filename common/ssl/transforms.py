"""Learned transformations: how strong the views of a contrastive method are follows from a little supervision."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from prostafed.common.imaging.augment import CONTRASTIVE, Augmentation, apply_augmentation, draw_augmentation
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.heads import ClassificationHead
from prostafed.common.ssl.method import Method, Views
from prostafed.common.ssl.readers import majority

# What a strength scales; flip, Gibbs ringing and cutout are steps, not slopes, and stay as drawn.
LEARNED = ("angle_rad", "shift_mm", "elastic_mm", "log_gamma", "brightness", "bias", "blur_mm", "noise")
LEARNED_AROUND_1 = ("scaling", "contrast")
PACE = 10.0  # AdamW steps by its learning rate whatever the gradient: strengths take ten times the steps of weights


class Transforms(nn.Module):
    """One strength for each of LEARNED and LEARNED_AROUND_1, in (0, 2): a factor on what is drawn, 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(len(LEARNED) + len(LEARNED_AROUND_1)))

    def forward(self) -> Tensor:
        """Return the strengths, on the CPU, where what they scale was drawn."""
        return 2 * torch.sigmoid(PACE * self.raw).cpu()


def scale_augmentation(drawn: Augmentation, strengths: Tensor) -> Augmentation:
    """Return the draw, each transformation as many times as strong as its strength says; differentiable in them."""
    factor = dict(zip(LEARNED + LEARNED_AROUND_1, strengths, strict=True))
    scaled = {name: getattr(drawn, name) * factor[name] for name in LEARNED}
    scaled |= {name: 1 + (getattr(drawn, name) - 1) * factor[name] for name in LEARNED_AROUND_1}
    return replace(drawn, **scaled)


def reverse_gradient(values: Tensor) -> Tensor:
    """Return the same values; gradients through them change their sign (Ganin and Lempitsky 2015)."""
    return 2 * values.detach() - values


def judge_loss(logits: Tensor, labels: Sequence[int | None]) -> Tensor:
    """Return the cross-entropy of logits (N,) over the labelled cases, 0 where there is none."""
    known = [index for index, label in enumerate(labels) if label is not None]
    target = logits.new_tensor([label for label in labels if label is not None])
    return binary_cross_entropy_with_logits(logits[known], target, reduction="sum") / max(1, len(known))


def learn_transforms(method: Method) -> Method:
    """Return a contrastive `method` of two views whose augmentations' strengths are learnt along with the network.

    After Ruppli, Gori, Ardon and Bloch 2022 (arXiv 2207.13367). From its abstract, all that we read: transformations
    for contrastive learning are optimised through differentiable transforms, with a little supervision, without a
    generative model, so that transformed images keep what the supervised task needs. The rest is our choice: one
    strength per transformation instead of a network; an adversarial contrastive term beside the supervised one, the
    idea of Tian et al. 2020 for learned views; the majority of PI-RADS reads as supervision.

    The network minimises contrastive + supervised loss. The strengths minimise supervised - contrastive: views as hard
    as they can be while the label stays readable, for views that are easy to match would need no transformation at
    all. One backward pass does both, through a reversed gradient. Without a labelled case nothing holds strengths back
    but their bound, twice the preset, and weight decay towards it.

    Adds the groups "transforms" and "judge", which stay at the site. The views are made where the loss can reach them,
    in `outputs`: `views` gives (images, the two views' seeds, spacing), the latter two alike for every case. The judge
    sees the first view, encoded once more.
    """

    def views(images: Tensor, spacing_mm: tuple[float, float, float], generator: Generator) -> Views:
        seeds = torch.randint(2**62, (1, 2), generator=generator)
        spacing = torch.tensor([spacing_mm], dtype=torch.float64)
        return images, seeds.expand(len(images), -1), spacing.expand(len(images), -1)

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        images, seeds, spacing = seen
        dz, dy, dx = spacing[0].tolist()
        draws = [
            draw_augmentation(len(images), (dz, dy, dx), Generator().manual_seed(seed), CONTRASTIVE)
            for seed in seeds[0].tolist()
        ]
        strengths: Tensor = network["transforms"]()
        hard = [apply_augmentation(images, scale_augmentation(drawn, reverse_gradient(strengths))) for drawn in draws]
        readable = apply_augmentation(images, scale_augmentation(draws[0], strengths))
        logits = network["judge"](network["encoder"].describe(readable))  # type: ignore[operator]
        return *method.outputs(network, tuple(hard)), logits

    def loss(given: Views, records: Sequence[CaseRecord]) -> Tensor:
        *contrastive, logits = given
        labels = [majority(record.pirads_reads) for record in records]
        return method.loss(tuple(contrastive), records) + judge_loss(logits.float(), labels)

    groups = {
        "transforms": lambda encoder: Transforms(),
        "judge": lambda encoder: ClassificationHead(encoder.vector_size, prior=0.5),
    }
    return replace(
        method,
        heads={**method.heads, **groups},
        views=views,
        outputs=outputs,
        loss=loss,
        decomposes_per_sample=False,  # the judge's loss is a mean over the labelled cases of a batch
    )
