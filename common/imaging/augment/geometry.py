"""Where voxels come from: rotation, scaling, shift, flip and elastic deformation, in one resampling."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from prostafed.common.imaging.augment.draw import Augmentation


def apply_geometry(volumes: Tensor, drawn: Augmentation, mode: str = "bilinear") -> Tensor:
    """Return moved volumes (batch, channel, z, y, x), of the dtype they came in; `mode` "nearest" for masks.

    Output voxel p shows the input at A p + t + u(p): affine (A, t) and elastic displacement u in one resampling, so
    nothing is interpolated twice. What enters from outside repeats the border. Positions are float32 whatever the
    volumes are, under autocast too: float16 knows a place among 256 voxels only to a sixteenth of a voxel.
    """
    extent_mm = torch.tensor([n * mm for n, mm in zip(volumes.shape[2:], drawn.spacing_mm, strict=True)])
    with torch.autocast(volumes.device.type, enabled=False):
        theta = affine_rows(drawn, extent_mm).to(volumes.device, torch.float32)
        grid = affine_grid(theta, list(volumes.shape), align_corners=False)
        if drawn.elastic_mm.any():
            # in units of half the extent, components (x, y, z), as grid_sample counts
            controls = (drawn.elastic_mm * (2 / extent_mm).view(3, 1, 1, 1)).flip(1)
            moved = displace(controls.to(grid), (volumes.shape[2], volumes.shape[3], volumes.shape[4]))
            grid = grid + moved.movedim(1, -1)
        sampled = grid_sample(volumes.float(), grid, mode=mode, padding_mode="border", align_corners=False)
    return sampled.to(volumes.dtype)


def affine_rows(drawn: Augmentation, extent_mm: Tensor) -> Tensor:
    """Return (A, t) as torch wants it: (batch, 3, 4), rows and columns (x, y, z), in units of half the extent."""
    _, height, width = extent_mm.tolist()
    cosine, sine = torch.cos(drawn.angle_rad) / drawn.scaling, torch.sin(drawn.angle_rad) / drawn.scaling
    mirror = torch.where(drawn.flip, -1.0, 1.0)
    theta = torch.zeros(drawn.angle_rad.shape[0], 3, 4)
    theta[:, 0, 0], theta[:, 0, 1] = cosine * mirror, -sine * height / width * mirror
    theta[:, 1, 0], theta[:, 1, 1] = sine * width / height, cosine
    theta[:, 2, 2] = 1 / drawn.scaling
    theta[:, :, 3] = (2 * drawn.shift_mm / extent_mm).flip(1)
    return theta


def displace(controls: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the cubic B-spline through control points (batch, 3, z, y, x) at every voxel: (batch, 3, *size).

    Free-form deformation (Rueckert et al. 1999): smooth to the second derivative, and never beyond the largest control
    point. One row of control points lies outside the volume on every side.
    """
    z, y, x = (spline_weights(count, n).to(controls) for count, n in zip(controls.shape[2:], size, strict=True))
    return torch.einsum("bcklm,zk,yl,xm->bczyx", controls, z, y, x)


def spline_weights(count: int, size: int) -> Tensor:
    """Return the weights (size, count) of `count` >= 4 control points at the centres of `size` voxels; a row sums
    to 1.
    """
    position = 1 + (torch.arange(size) + 0.5) / size * (count - 3)
    distance = (position[:, None] - torch.arange(count)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)
