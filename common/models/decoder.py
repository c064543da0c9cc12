"""A U-Net decoder over the encoder's feature maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prostafed.common.models.encoder import Encoder, StagePlan, residual_block
from prostafed.common.models.heads import VoxelHead


class UNetDecoder(nn.Module):
    """Maps the encoder's feature maps back to full resolution: (batch, channels of the first stage, z, y, x).

    Interpolation and convolution: transposed convolutions leave a checkerboard in detection maps.
    """

    def __init__(self, plans: Sequence[StagePlan], norm: str) -> None:
        from monai.networks.blocks import UpSample  # loads in seconds

        super().__init__()
        deep, shallow = list(plans[:0:-1]), list(plans[-2::-1])
        self.ups = nn.ModuleList(
            UpSample(
                spatial_dims=3,
                in_channels=below.channels,
                out_channels=above.channels,
                scale_factor=below.stride,
                mode="nontrainable",
                interp_mode="trilinear",
                align_corners=False,
            )
            for below, above in zip(deep, shallow, strict=True)
        )
        self.blocks = nn.ModuleList(residual_block(2 * plan.channels, plan, norm, subunits=1) for plan in shallow)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return full-resolution features; `features` finest first, as the encoder gives them."""
        current = features[-1]
        for up, block, skip in zip(self.ups, self.blocks, features[-2::-1], strict=True):
            z, y, x = skip.shape[2:]
            risen = up(current)[:, :, :z, :y, :x]  # an odd axis was rounded up when it was halved
            current = block(torch.cat([risen, skip], dim=1))
        return current


class MapHead(nn.Module):
    """U-Net decoder and `outputs` values per voxel: the head of a task that answers with maps."""

    def __init__(self, encoder: Encoder, outputs: int, prior: float | None = None) -> None:
        """`prior` as in VoxelHead."""
        super().__init__()
        self.decoder = UNetDecoder(encoder.plans, encoder.norm)
        self.voxels = VoxelHead(encoder.plans[0].channels, outputs, prior)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (batch, outputs, z, y, x) from the encoder's feature maps."""
        logits: Tensor = self.voxels(self.decoder(features))
        return logits
