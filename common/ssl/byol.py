"""Bootstrap your own latent: predict what a slow copy of the network says of the other view; no negatives (Grill et
al., NeurIPS 2020, arXiv 2006.07733).

LayerNorm in the heads where the paper has BatchNorm, which breaks under averaging; the momentum is constant where the
paper raises it to 1. Predictor and target never leave the site.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.models.heads import ProjectionHead
from prostafed.common.ssl.method import About, Method, Views
from prostafed.common.ssl.methods import ByolParameters
from prostafed.common.ssl.pairs import project, projection_builder, two_views
from prostafed.common.ssl.targets import TARGETS, follow, target_heads

ABOUT = About(
    family="without negatives, a target that follows",
    paper="Grill et al., NeurIPS 2020, arXiv 2006.07733",
    equation="(1/N) sum_i |q_i^1 - t_i^2|^2 + |q_i^2 - t_i^1|^2",
    when="no reports; small batches",
)


def bootstrap_error(q1: Tensor, q2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    """Return (1/N) sum_i |q_i^1 - t_i^2|^2 + |q_i^2 - t_i^1|^2, for unit predictions q and targets t (N, D) of two
    views: 2 - 2 cos each, 0 to 8 together.
    """
    return (4 - 2 * (q1 * t2).sum(dim=1) - 2 * (q2 * t1).sum(dim=1)).mean()


def build(parameters: ByolParameters) -> Method:
    """Return the method: two augmented views, a projection head and a predictor, targets that follow slowly."""

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        images = torch.cat(seen)
        predictions = network["predictor"](project(network, images)).float()
        with torch.no_grad():
            targets = project(network, images, prefix="target_")
        q1, q2 = normalize(predictions, dim=1).chunk(2)
        t1, t2 = normalize(targets, dim=1).chunk(2)
        return q1, q2, t1, t2

    def loss(compared: Views, records: Sequence[CaseRecord]) -> Tensor:
        return bootstrap_error(*compared)

    size = parameters.projection_size
    return Method(
        heads={
            "projection": projection_builder(size),
            **target_heads(size),
            "predictor": lambda encoder: ProjectionHead(size, size),
        },
        views=two_views,
        outputs=outputs,
        loss=loss,
        decomposes_per_sample=True,
        targets=TARGETS,
        advance=lambda network, compared: follow(network, TARGETS, parameters.momentum),
    )
