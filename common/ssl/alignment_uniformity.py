"""Conditional alignment and uniformity with continuous labels (Dufumier et al., Medical Imaging meets NeurIPS 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.conditional import conditional_alignment
from prostafed.common.ssl.kernels import build_kernel
from prostafed.common.ssl.method import About, Method
from prostafed.common.ssl.methods import AlignmentUniformityParameters
from prostafed.common.ssl.pairs import pair_method, squared_distances

ABOUT = About(
    family="contrastive, uses PI-RADS",
    paper="Dufumier et al., MedNeurIPS 2021",
    equation="lambda_a as in `conditional` + "
    "lambda_u log (1/N) sum_i sum_j [(1 - w_ij) / sum_k (1 - w_ik)] exp(-t d2_ij)",
    when="as `yaware`; two weights say how much attracts and repels",
)


def conditional_uniformity(z1: Tensor, z2: Tensor, kernel: Tensor, scale: float = 1.0) -> Tensor:
    """Return U_c = log (1/N) sum_i sum_j [(max w - w_ij) / sum_k (max w - w_ik)] exp(-t d2_ij) over all 2N views, for
    unit projections (N, D) and a kernel (N, N) in [0, 1] between cases.

    max w is 1, the kernel of the two views of a case, so these, and a view and itself, do not repel each other. A view
    that nothing repels is left out of the sum; where that is every view, as in a batch of one label, U_c is 0.
    """
    count = z1.shape[0]
    repulsion = (1 - kernel.to(z1)).clamp_min(0.0)
    repulsion = repulsion.masked_fill(torch.eye(count, dtype=torch.bool, device=z1.device), 0.0).repeat(2, 2)
    repulsion = repulsion / repulsion.sum(dim=1, keepdim=True).clamp_min(torch.finfo(z1.dtype).tiny)
    repelled = repulsion > 0
    if not repelled.any():
        return z1.new_zeros(())
    exponents = -scale * squared_distances(torch.cat([z1, z2]))[repelled] + repulsion[repelled].log()
    return torch.logsumexp(exponents, dim=0) - torch.log(z1.new_tensor(float(count)))


def build(parameters: AlignmentUniformityParameters) -> Method:
    """Return the method: two augmented views, a projection head, lambda_u U_c + lambda_a A."""

    def loss(z1: Tensor, z2: Tensor, records: Sequence[CaseRecord]) -> Tensor:
        kernel = build_kernel(records, parameters)
        uniformity = conditional_uniformity(z1, z2, kernel, parameters.scale)
        alignment = conditional_alignment(z1, z2, kernel)
        return parameters.uniformity_weight * uniformity + parameters.alignment_weight * alignment

    return pair_method(parameters.projection_size, loss)
