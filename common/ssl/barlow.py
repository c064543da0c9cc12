"""Barlow Twins (Zbontar, Jing, Misra, LeCun, Deny, ICML 2021, arXiv 2103.03230)."""

from torch import Tensor

from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import BarlowParameters
from prostafed.common.ssl.pairs import not_self, pair_method

ABOUT = About(
    family="without negatives, statistics of the batch",
    paper="Zbontar et al., ICML 2021, arXiv 2103.03230",
    equation="sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, C the correlation of the views over the batch",
    when="as `vicreg`, one weight; batches of more than a few cases",
)

STABILITY = 1e-5  # added to a variance before its root, as BatchNorm in the authors' code does


def cross_correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """Return C (D, D), the correlation over the batch of every coordinate of z1 with every one of z2, both (N, D)."""

    def standardise(z: Tensor) -> Tensor:
        return (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + STABILITY).sqrt()

    return standardise(z1).T @ standardise(z2) / z1.shape[0]


def redundancy_loss(z1: Tensor, z2: Tensor, redundancy_weight: float = 0.005) -> Tensor:
    """Return sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2 for projections (N, D), not normalised.

    With one case C is 0, and so is the gradient.
    """
    correlation = cross_correlation(z1, z2)
    same = (1 - correlation.diagonal()).square().sum()
    other = correlation[not_self(len(correlation), z1.device)].square().sum()
    return same + redundancy_weight * other


def build(parameters: BarlowParameters) -> Method:
    """Return the method: two augmented views, a projection head, a cross-correlation near the identity."""

    def loss(z1: Tensor, z2: Tensor, records: object) -> Tensor:
        return redundancy_loss(z1, z2, parameters.redundancy_weight)

    return pair_method(parameters.projection_size, loss, unit=False)
