"""A self-supervised method: the two views of a case lie close, and all coordinates are used (hyperspherical)."""

from dataclasses import dataclass

from torch import Tensor

from prostafed.common.settings import setting
from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import PairParameters
from prostafed.common.ssl.pairs import pair_method, squared_distances

ABOUT = About(
    family="contrastive",
    paper="Wang & Isola, ICML 2020",
    equation="mean_i |z1_i - z2_i|^2 + lambda log mean_{i, j} exp(-2 d2_ij)",
    when="as `simclr`",
)


@dataclass(frozen=True)
class TwelfthParameters(PairParameters):
    """Alignment and uniformity (Wang & Isola 2020)."""

    weight: float = setting(1.0, "lambda, weight of uniformity", at_least=0)


def spread(z: Tensor) -> Tensor:
    """Return log mean exp(-2 d2) of unit projections (N, D)."""
    return (-2 * squared_distances(z)).exp().mean().log()


def build(parameters: TwelfthParameters) -> Method:
    """Return the method."""
    return pair_method(
        parameters.projection_size,
        lambda z1, z2, records: (
            (z1 - z2).square().sum(dim=1).mean() + parameters.weight * (spread(z1) + spread(z2)) / 2
        ),
    )
