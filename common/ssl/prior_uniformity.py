"""Decoupled uniformity with a prior kernel (Dufumier, Barbano, Louiset, Duchesnay, Gori, ICML 2023, arXiv
2206.01646).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.kernels import build_kernel
from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import PriorUniformityParameters
from prostafed.common.ssl.pairs import not_self, pair_method

ABOUT = About(
    family="contrastive, uses PI-RADS",
    paper="Dufumier et al., ICML 2023, arXiv 2206.01646",
    equation="log mean_{i < j} exp(-t |mu_i - mu_j|^2), mu = (K + lambda I)^-1 K mean of the views",
    when="PI-RADS that hints at, but should not decide, who is alike",
)


def estimate_centroids(z1: Tensor, z2: Tensor, kernel: Tensor, regularisation: float = 0.01) -> Tensor:
    """Return (K + lambda I)^-1 K mu (N, D), mu_i the mean of a case's two unit projections (N, D).

    K is `kernel` (N, N) with 1 on the diagonal: a case is like itself. Solved in float64.
    """
    prior = kernel.to(z1.device, torch.float64, copy=True).fill_diagonal_(1.0)
    identity = torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
    coefficients: Tensor = torch.linalg.solve(prior + regularisation * identity, prior)
    return coefficients.to(z1) @ ((z1 + z2) / 2)


def centroid_uniformity(centroids: Tensor, scale: float = 2.0) -> Tensor:
    """Return log mean_{i < j} exp(-t |mu_i - mu_j|^2) for centroids (N, D).

    The centroids lie inside the unit sphere, and to spread them apart the views of a case must agree: no term for
    alignment is needed. With one case there is no pair: 0, without gradient.
    """
    count = centroids.shape[0]
    if count < 2:
        return centroids.sum() * 0
    distances = (centroids[:, None] - centroids[None, :]).square().sum(dim=2)[not_self(count, centroids.device)]
    return torch.logsumexp(-scale * distances, dim=0) - torch.log(centroids.new_tensor(float(count * (count - 1))))


def build(parameters: PriorUniformityParameters) -> Method:
    """Return the method: two augmented views, a projection head, uniformity of the centroids the prior smoothed.

    The authors' kernels compare generative models' representations or weak attributes; here PI-RADS is the attribute.
    """

    def loss(z1: Tensor, z2: Tensor, records: Sequence[CaseRecord]) -> Tensor:
        centroids = estimate_centroids(z1, z2, build_kernel(records, parameters), parameters.regularisation)
        return centroid_uniformity(centroids, parameters.scale)

    return pair_method(parameters.projection_size, loss)
