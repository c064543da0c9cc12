"""Decoupled conditional contrastive learning with variable metadata (Ruppli, Gori, Ardon, Bloch 2023, arXiv
2308.09542).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.kernels import build_kernel
from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import ConditionalParameters
from prostafed.common.ssl.pairs import attraction, not_self, pair_method, squared_distances

ABOUT = About(
    family="contrastive, uses PI-RADS reads and their agreement",
    paper="Ruppli et al., MILLanD 2023, arXiv 2308.09542",
    equation="lambda_u 1/2 sum_v log (1/N^2) sum_{i != j} exp(-t d2_ij) + "
    "lambda_a (1/N) sum_i sum_j (w_ij / sum_k w_ik) d2_ij",
    when="reports give PI-RADS, best from several readers; the default",
)


def decoupled_uniformity(z1: Tensor, z2: Tensor, scale: float = 1.0) -> Tensor:
    """Return U = 1/2 sum_v log[(1/N^2) sum_{i != j} exp(-t |z_i^v - z_j^v|^2)] for projections (N, D) of two views.

    With one case there is no pair to spread apart: 0.
    """
    count = z1.shape[0]
    if count < 2:
        return z1.new_zeros(())
    others = not_self(count, z1.device)
    spread = [torch.logsumexp(-scale * squared_distances(z)[others], dim=0) for z in (z1, z2)]
    return torch.stack(spread).mean() - 2 * torch.log(z1.new_tensor(float(count)))


def conditional_alignment(z1: Tensor, z2: Tensor, kernel: Tensor) -> Tensor:
    """Return A = (1/N) sum_i sum_j (w_ij / sum_k w_ik) d2_ij over all 2N views, for a kernel (N, N) between cases.

    A view's kernel with the other view of its own case is 1, with itself 0.
    """
    return (attraction(kernel, z1) * squared_distances(torch.cat([z1, z2]))).sum() / z1.shape[0]


def build(parameters: ConditionalParameters) -> Method:
    """Return the method: two augmented views, a projection head, lambda_u U + lambda_a A."""

    def loss(z1: Tensor, z2: Tensor, records: Sequence[CaseRecord]) -> Tensor:
        uniformity = decoupled_uniformity(z1, z2, parameters.scale)
        alignment = conditional_alignment(z1, z2, build_kernel(records, parameters))
        return parameters.uniformity_weight * uniformity + parameters.alignment_weight * alignment

    return pair_method(parameters.projection_size, loss)
