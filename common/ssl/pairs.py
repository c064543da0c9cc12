"""What the methods have in common that compare two augmented views of each case."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from prostafed.common.imaging.augment import CONTRASTIVE, apply_augmentation, draw_augmentation
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.encoder import Encoder
from prostafed.common.models.heads import ProjectionHead
from prostafed.common.ssl.method import Method, Views

# (projections (N, D) of the first views, of the second, the cases' records) -> scalar
PairLoss = Callable[[Tensor, Tensor, Sequence[CaseRecord]], Tensor]


def two_views(images: Tensor, spacing_mm: tuple[float, float, float], generator: Generator) -> Views:
    """Return two augmentations of the images, drawn independently."""
    first, second = (draw_augmentation(images.shape[0], spacing_mm, generator, CONTRASTIVE) for _ in range(2))
    return apply_augmentation(images, first), apply_augmentation(images, second)


def project(network: nn.ModuleDict, images: Tensor, prefix: str = "") -> Tensor:
    """Return projections (batch, D), float32, not normalised; `prefix` "target_" for those of the targets."""
    vectors = network[f"{prefix}encoder"].describe(images)  # type: ignore[operator]
    projections: Tensor = network[f"{prefix}projection"](vectors)
    return projections.float()


def projection_builder(size: int) -> Callable[[Encoder], nn.Module]:
    """Return the builder of the projection head."""
    return lambda encoder: ProjectionHead(encoder.vector_size, size)


def pair_method(projection_size: int, loss: PairLoss, unit: bool = True) -> Method:
    """Return the method that minimises `loss` of two views' projections; `unit`: scaled to length 1."""

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        projections = project(network, torch.cat(seen))
        z1, z2 = (normalize(projections, dim=1) if unit else projections).chunk(2)
        return z1, z2

    return Method(
        heads={"projection": projection_builder(projection_size)},
        views=two_views,
        outputs=outputs,
        loss=lambda projections, records: loss(projections[0], projections[1], records),
        decomposes_per_sample=False,
    )


def squared_distances(z: Tensor) -> Tensor:
    """Return |z_i - z_j|^2 (N, N) for unit vectors (N, D): 2 - 2 z_i.z_j."""
    return 2 - 2 * z @ z.T


def not_self(count: int, device: torch.device) -> Tensor:
    """Return a mask (count, count), False on the diagonal."""
    return ~torch.eye(count, dtype=torch.bool, device=device)


def attraction(kernel: Tensor, like: Tensor) -> Tensor:
    """Return w_ij / sum_k w_ik over all 2N views (2N, 2N), for a kernel (N, N) between cases, as `like` in dtype and
    device.

    A view's kernel with the other view of its own case is 1, with itself 0.
    """
    count = kernel.shape[0]
    weights = kernel.to(like).repeat(2, 2)
    index = torch.arange(2 * count, device=like.device)
    weights[index, (index + count) % (2 * count)] = 1.0
    weights[index, index] = 0.0
    return weights / weights.sum(dim=1, keepdim=True)


def log_softmax_of_others(z: Tensor, temperature: float) -> Tensor:
    """Return log softmax_j(z_i.z_j / tau) over j != i (2N, 2N) for unit vectors (2N, D); 0 on the diagonal."""
    others = not_self(z.shape[0], z.device)
    logits = (z @ z.T / temperature).masked_fill(~others, -torch.inf)
    return logits.log_softmax(dim=1).masked_fill(~others, 0.0)
