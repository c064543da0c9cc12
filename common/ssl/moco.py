"""Momentum contrast: a slow encoder and a queue of past keys stand in for a large batch (He, Fan, Wu, Xie, Girshick,
CVPR 2020, arXiv 1911.05722).

With the projection head and temperature of the second version (Chen, Fan, Girshick, He 2020, arXiv 2003.04297); no
shuffled BatchNorm, since there is no BatchNorm. Queue and momentum encoder never leave the site.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from prostafed.common.imaging.cases import CaseRecord
from prostafed.common.ssl.method import About, Method, Views
from prostafed.common.ssl.methods import MocoParameters
from prostafed.common.ssl.pairs import project, projection_builder, two_views
from prostafed.common.ssl.targets import TARGETS, follow, target_heads

ABOUT = About(
    family="contrastive, negatives from a queue",
    paper="He et al., CVPR 2020, arXiv 1911.05722",
    equation="-(1/N) sum_i log exp(q_i.k_i / tau) / (exp(q_i.k_i / tau) + sum_m exp(q_i.n_m / tau))",
    when="no reports; small batches, several hundred cases per site",
)


class KeyQueue(nn.Module):
    """The latest keys (size, D), newest first; random unit vectors to begin with, as in the paper's code."""

    keys: Tensor

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        self.register_buffer("keys", normalize(torch.randn(size, length), dim=1))

    def push(self, keys: Tensor) -> None:
        """Put unit keys (batch, D) in front, and drop as many of the oldest."""
        self.keys = torch.cat([keys.detach().to(self.keys), self.keys])[: len(self.keys)]


def queue_infonce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float = 0.2) -> Tensor:
    """Return -(1/N) sum_i log[exp(q_i.k_i / tau) / (exp(q_i.k_i / tau) + sum_m exp(q_i.n_m / tau))].

    Unit vectors: `queries` and `keys` (N, D), the two views of the same cases; `negatives` (size, D), of others.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def build(parameters: MocoParameters) -> Method:
    """Return the method: queries from the first view, keys from the second by the momentum encoder, InfoNCE.

    It does not decompose per sample: through the queue a case's loss depends on the cases of past batches.
    """

    def outputs(network: nn.ModuleDict, seen: Views) -> Views:
        first, second = seen
        queries = normalize(project(network, first), dim=1)
        with torch.no_grad():
            keys = normalize(project(network, second, prefix="target_"), dim=1)
        return queries, keys, network.get_buffer("queue.keys")

    def loss(compared: Views, records: Sequence[CaseRecord]) -> Tensor:
        queries, keys, negatives = compared
        return queue_infonce(queries, keys, negatives, parameters.temperature)

    def advance(network: nn.ModuleDict, compared: Views) -> None:
        network["queue"].push(compared[1])  # type: ignore[operator]
        follow(network, TARGETS, parameters.momentum)

    return Method(
        heads={
            "projection": projection_builder(parameters.projection_size),
            **target_heads(parameters.projection_size),
            "queue": lambda encoder: KeyQueue(parameters.queue_size, parameters.projection_size),
        },
        views=two_views,
        outputs=outputs,
        loss=loss,
        decomposes_per_sample=False,
        targets=TARGETS,
        advance=advance,
    )
