"""y-aware InfoNCE (Dufumier, Gori, Victor, Grigis, Wessa, Brambilla, Favre, Polosan, McDonald, Piguet, Phillips,
Eyler, Duchesnay, MICCAI 2021).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.kernels import build_kernel
from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import YAwareParameters
from prostafed.common.ssl.pairs import attraction, log_softmax_of_others, pair_method

ABOUT = About(
    family="contrastive, uses PI-RADS",
    paper="Dufumier et al., MICCAI 2021",
    equation="-(1/N) sum_i sum_{j != i} (w_ij / sum_k w_ik) log softmax_j(z_i.z_j / tau)",
    when="PI-RADS from one reader, taken as a number",
)


def yaware_infonce(z1: Tensor, z2: Tensor, kernel: Tensor, temperature: float = 0.1) -> Tensor:
    """Return L = -(1/N) sum_i sum_{j != i} (w_ij / sum_k w_ik) log softmax_j(z_i.z_j / tau) over all 2N views, for unit
    projections (N, D) and a kernel (N, N) between cases.

    w is 1 between the views of a case, as an RBF kernel gives it. The weights of a view add up to 1, as the equation
    says; the authors' code divides w_ij by the sum of row j, not i. With one case: 0, nothing stands beside its views.
    """
    log_probability = log_softmax_of_others(torch.cat([z1, z2]), temperature)
    return -(attraction(kernel, z1) * log_probability).sum() / z1.shape[0]


def build(parameters: YAwareParameters) -> Method:
    """Return the method: two augmented views, a projection head, y-aware InfoNCE.

    With the rule "none" for confidences, the default, this is the published loss with mean PI-RADS as y, where a case
    that nobody read attracts only its own other view.
    """

    def loss(z1: Tensor, z2: Tensor, records: Sequence[CaseRecord]) -> Tensor:
        return yaware_infonce(z1, z2, build_kernel(records, parameters), parameters.temperature)

    return pair_method(parameters.projection_size, loss)
