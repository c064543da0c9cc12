"""Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun, ICLR 2022, arXiv 2105.04906)."""

from torch import Tensor
from torch.nn.functional import mse_loss, relu

from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import VicregParameters
from prostafed.common.ssl.pairs import not_self, pair_method

ABOUT = About(
    family="without negatives, statistics of the batch",
    paper="Bardes et al., ICLR 2022, arXiv 2105.04906",
    equation="lambda s(z1, z2) + mu [v(z1) + v(z2)] / 2 + nu [c(z1) + c(z2)], z not normalised",
    when="no reports; no negatives and no second encoder",
)

STABILITY = 1e-4  # added to a variance before its root, so that a constant coordinate has a gradient


def invariance(z1: Tensor, z2: Tensor) -> Tensor:
    """Return s, the mean over cases and coordinates of (z1 - z2)^2, for projections (N, D)."""
    return mse_loss(z1, z2)


def variance(z: Tensor) -> Tensor:
    """Return v = (1/D) sum_j max(0, 1 - sqrt(var(z_j) + 1e-4)), for two or more projections (N, D)."""
    return relu(1 - (z.var(dim=0) + STABILITY).sqrt()).mean()


def covariance(z: Tensor) -> Tensor:
    """Return c = (1/D) sum_{i != j} cov(z)_ij^2, for two or more projections (N, D)."""
    count, length = z.shape
    centred = z - z.mean(dim=0)
    correlation = centred.T @ centred / (count - 1)
    return correlation[not_self(length, z.device)].square().sum() / length


def vicreg_loss(z1: Tensor, z2: Tensor, weights: tuple[float, float, float] = (25.0, 25.0, 1.0)) -> Tensor:
    """Return lambda s + mu (v(z1) + v(z2)) / 2 + nu (c(z1) + c(z2)) for projections (N, D), not normalised; `weights`
    (lambda, mu, nu).

    s is a mean over coordinates and v is halved, as in the authors' code. With one case, which has neither variance nor
    covariance, lambda s remains.
    """
    lambda_, mu, nu = weights
    loss = lambda_ * invariance(z1, z2)
    if z1.shape[0] < 2:
        return loss
    return loss + mu * (variance(z1) + variance(z2)) / 2 + nu * (covariance(z1) + covariance(z2))


def build(parameters: VicregParameters) -> Method:
    """Return the method: two augmented views, a projection head, VICReg."""
    weights = (parameters.invariance_weight, parameters.variance_weight, parameters.covariance_weight)
    return pair_method(parameters.projection_size, lambda z1, z2, records: vicreg_loss(z1, z2, weights), unit=False)
