"""Augmentation in two halves: draw the parameters of a whole batch on the CPU, then apply them wherever the batch lies.

What is drawn does not depend on the device, so a run on a GPU sees the views a run on a CPU sees. The order follows
acquisition: the body moves (geometry), the coil shades it (bias field), k-space blurs and truncates (resolution), the
scanner's scale and noise come on top (intensity), and a box is cut out last.
"""

import torch
from torch import Tensor

from prostafed.common.imaging.augment.draw import CONTRASTIVE, SUPERVISED, Augmentation, Preset, draw_augmentation
from prostafed.common.imaging.augment.geometry import apply_geometry
from prostafed.common.imaging.augment.intensity import apply_bias, apply_intensity
from prostafed.common.imaging.augment.occlusion import HIDDEN_RATE, apply_cutout, find_present, hide_sequences
from prostafed.common.imaging.augment.resolution import apply_resolution

__all__ = [
    "CONTRASTIVE",
    "HIDDEN_RATE",
    "SUPERVISED",
    "Augmentation",
    "Preset",
    "apply_augmentation",
    "apply_bias",
    "apply_cutout",
    "apply_geometry",
    "apply_intensity",
    "apply_resolution",
    "draw_augmentation",
    "find_present",
    "hide_sequences",
]


def apply_augmentation(images: Tensor, drawn: Augmentation) -> Tensor:
    """Return augmented images (batch, sequence, z, y, x), of the dtype they came in; a missing sequence stays zeros.

    Computed in float32, under autocast too.
    """
    present = find_present(images)[:, :, None, None, None]
    with torch.autocast(images.device.type, enabled=False):
        seen = apply_geometry(images.float(), drawn)
        for apply in (apply_bias, apply_resolution, apply_intensity, apply_cutout):
            seen = apply(seen, drawn)
    return (seen * present).to(images.dtype)
