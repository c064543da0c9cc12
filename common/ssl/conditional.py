"""Decoupled conditional contrastive learning with variable metadata (Ruppli, Gori, Ardon, Bloch 2023, arXiv
2308.09542).
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from prostafed.common.imaging.augment import apply_augmentation, draw_augmentation
from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.heads import ProjectionHead
from prostafed.common.ssl.kernels import delta_kernel, summarise_reads
from prostafed.common.ssl.method import Method, Views
from prostafed.common.ssl.parameters import ConditionalParameters


def decoupled_uniformity(z1: Tensor, z2: Tensor, scale: float = 1.0) -> Tensor:
    """Return U = 1/2 sum_v log[(1/N^2) sum_{i != j} exp(-t |z_i^v - z_j^v|^2)] for projections (N, D) of two views.

    With one case there is no pair to spread apart: 0.
    """
    count = z1.shape[0]
    if count < 2:
        return z1.new_zeros(())
    others = ~torch.eye(count, dtype=torch.bool, device=z1.device)
    spread = [torch.logsumexp(-scale * squared_distances(z)[others], dim=0) for z in (z1, z2)]
    return torch.stack(spread).mean() - 2 * torch.log(z1.new_tensor(float(count)))


def conditional_alignment(z1: Tensor, z2: Tensor, kernel: Tensor) -> Tensor:
    """Return A = (1/N) sum_i sum_j (w_ij / sum_k w_ik) d2_ij over all 2N views, for a kernel (N, N) between cases.

    A view's kernel with the other view of its own case is 1, with itself 0.
    """
    count = z1.shape[0]
    weights = kernel.to(z1).repeat(2, 2)
    index = torch.arange(2 * count, device=z1.device)
    weights[index, (index + count) % (2 * count)] = 1.0
    weights[index, index] = 0.0
    weights = weights / weights.sum(dim=1, keepdim=True)
    return (weights * squared_distances(torch.cat([z1, z2]))).sum() / count


def squared_distances(z: Tensor) -> Tensor:
    """Return |z_i - z_j|^2 (N, N) for unit vectors (N, D): 2 - 2 z_i.z_j."""
    return 2 - 2 * z @ z.T


def build(parameters: ConditionalParameters) -> Method:
    """Return the method: two augmented views, a projection head, lambda_u U + lambda_a A."""

    def views(images: Tensor, spacing_mm: tuple[float, float, float], generator: Generator) -> Views:
        first, second = (draw_augmentation(images.shape[0], spacing_mm, generator) for _ in range(2))
        return apply_augmentation(images, first), apply_augmentation(images, second)

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        vectors = network["encoder"].describe(torch.cat(seen))  # type: ignore[operator]
        z1, z2 = normalize(network["projection"](vectors).float(), dim=1).chunk(2)
        return z1, z2

    def loss(projections: Views, records: Sequence[CaseRecord]) -> Tensor:
        z1, z2 = projections
        summaries = [
            summarise_reads(record.pirads_reads, parameters.confidence, parameters.single_read_confidence)
            for record in records
        ]
        kernel = delta_kernel([label for label, _ in summaries], [confidence for _, confidence in summaries])
        uniformity = decoupled_uniformity(z1, z2, parameters.scale)
        alignment = conditional_alignment(z1, z2, kernel)
        return parameters.uniformity_weight * uniformity + parameters.alignment_weight * alignment

    return Method(
        heads={"projection": lambda encoder: ProjectionHead(encoder.vector_size, parameters.projection_size)},
        views=views,
        outputs=outputs,
        loss=loss,
        decomposes_per_sample=False,
    )
