"""SimCLR (Chen, Kornblith, Norouzi, Hinton, ICML 2020, arXiv 2002.05709)."""

import torch
from torch import Tensor

from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import SimclrParameters
from prostafed.common.ssl.pairs import log_softmax_of_others, pair_method

ABOUT = About(
    family="contrastive",
    paper="Chen et al., ICML 2020, arXiv 2002.05709",
    equation="-(1/2N) sum_i log softmax_j(z_i.z_j / tau) at the other view",
    when="no reports; large batches; the baseline of the others",
)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float = 0.1) -> Tensor:
    """Return -(1/2N) sum_i log softmax_j(z_i.z_j / tau) at j = the other view of i's case, over all 2N views, j != i.

    `z1`, `z2` unit projections (N, D). With one case: 0, nothing stands beside its views.
    """
    log_probability = log_softmax_of_others(torch.cat([z1, z2]), temperature)
    count = z1.shape[0]
    return -(log_probability.diagonal(count).mean() + log_probability.diagonal(-count).mean()) / 2


def build(parameters: SimclrParameters) -> Method:
    """Return the method: two augmented views, a projection head, NT-Xent."""
    return pair_method(parameters.projection_size, lambda z1, z2, records: nt_xent(z1, z2, parameters.temperature))
