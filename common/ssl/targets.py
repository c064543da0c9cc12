"""Target groups: copies of trained groups that follow them slowly (He et al. 2020; Grill et al. 2020)."""

import copy
from collections.abc import Mapping

import torch
from torch import nn

from prostafed.common.models.encoder import Encoder
from prostafed.common.models.heads import ProjectionHead
from prostafed.common.models.network import GroupBuilder

TARGETS = {"target_encoder": "encoder", "target_projection": "projection"}


def target_heads(projection_size: int) -> dict[str, GroupBuilder]:
    """Return the builders of the groups TARGETS names: copies of the encoder and of a projection head in shape."""

    def projection(encoder: Encoder) -> nn.Module:
        return ProjectionHead(encoder.vector_size, projection_size)

    return {"target_encoder": copy.deepcopy, "target_projection": projection}


@torch.no_grad()
def follow(network: nn.ModuleDict, targets: Mapping[str, str], momentum: float) -> None:
    """Set every target's parameters, in place, to momentum x its own + (1 - momentum) x those of the group it follows.

    Momentum 0 makes them equal to the last bit. The networks hold no running statistics that would have to follow too.
    """
    for target, followed in targets.items():
        for own, other in zip(network[target].parameters(), network[followed].parameters(), strict=True):
            own.lerp_(other, 1 - momentum)
