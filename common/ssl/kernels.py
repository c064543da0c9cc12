"""Kernels between the cases of a batch: how alike their metadata are, (N, N) float64, 0 = unrelated to 1 = alike.

The losses treat a case's own other view by themselves, so the diagonal means nothing here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.methods import KernelParameters
from prostafed.common.ssl.readers import confidence, majority, mean_score


def delta_kernel(labels: Sequence[int | None], certainty: Sequence[float]) -> Tensor:
    """Return 1[y_i = y_j] min(c_i, c_j) between labelled cases, else 0 (Ruppli et al. 2023)."""
    label = torch.tensor([-1 if value is None else value for value in labels])
    same = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    return torch.where(same, lesser(certainty), 0.0)


def rbf_kernel(values: Sequence[float | None], width: float, unknown: float = 0.0) -> Tensor:
    """Return exp(-(y_i - y_j)^2 / (2 width^2)) (Dufumier et al. 2021); `unknown` where one of the two is None.

    `width` has the unit of `values`.
    """
    known = torch.tensor([value is not None for value in values])
    value = torch.tensor([0.0 if value is None else value for value in values], dtype=torch.float64)
    alike = torch.exp(-((value[:, None] - value[None, :]) ** 2) / (2 * width**2))
    return torch.where(known[:, None] & known[None, :], alike, unknown)


def lesser(certainty: Sequence[float]) -> Tensor:
    """Return min(c_i, c_j)."""
    values = torch.tensor(certainty, dtype=torch.float64)
    return torch.minimum(values[:, None], values[None, :])


def build_kernel(records: Sequence[CaseRecord], parameters: KernelParameters) -> Tensor:
    """Return the kernel that `parameters` asks for, each times the lesser of the two cases' confidences.

    "delta" compares majority labels, "rbf" mean PI-RADS; "product" multiplies "rbf" with an RBF of PSA density (ng/ml
    per ml) and one of age (years). A case that nobody read is unrelated to all others; a PSA density or an age that one
    of two cases lacks is left out of their product, since it speaks neither for nor against them.
    """
    certainty = [
        confidence(record.pirads_reads, parameters.confidence, parameters.single_read_confidence) for record in records
    ]
    if parameters.kernel == "delta":
        return delta_kernel([majority(record.pirads_reads) for record in records], certainty)
    kernel = rbf_kernel([mean_score(record.pirads_reads) for record in records], parameters.pirads_width)
    if parameters.kernel == "product":
        densities, ages = [psa_density(record) for record in records], [record.age for record in records]
        kernel = kernel * rbf_kernel(densities, parameters.psa_density_width, unknown=1.0)
        kernel = kernel * rbf_kernel(ages, parameters.age_width_years, unknown=1.0)
    return kernel * lesser(certainty)


def psa_density(record: CaseRecord) -> float | None:
    """Return PSA divided by prostate volume, ng/ml per ml; None where one of the two is unknown or the volume is 0."""
    return record.psa / record.prostate_volume if record.psa is not None and record.prostate_volume else None
