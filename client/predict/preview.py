"""A picture of a result for who wants a look without a viewer: the T2W slice it shows best in."""

import base64

import numpy as np
import SimpleITK as sitk

from prostafed.client.predict.placing import Placed
from prostafed.common.pages.pictures import draw_picture


def draw_preview(placed: Placed, t2w: sitk.Image) -> bytes:
    """Return a PNG: the T2W in grey, heat over it, the outline of candidates, or of the gland."""
    volume = sitk.GetArrayViewFromImage(t2w)
    z = choose_plane(placed, volume.shape[0])
    planes = {"t2w": volume[z].astype(np.float32)}
    if placed.labels is not None:
        lesions = any(region.is_candidate for region in placed.regions)
        planes["lesion" if lesions else "gland"] = (placed.labels[z] > 0).astype(np.float32)
    spacing_mm = (t2w.GetSpacing()[1], t2w.GetSpacing()[0])
    uri = draw_picture(planes, "t2w", spacing_mm, None if placed.heat is None else placed.heat[z])
    return base64.b64decode(uri.partition(",")[2])


def choose_plane(placed: Placed, planes: int) -> int:
    """Return the plane with most of the first segment, else the one with the highest score, else the middle one."""
    if placed.regions and placed.labels is not None:
        return int(np.count_nonzero(placed.labels == placed.regions[0].number, axis=(1, 2)).argmax())
    if placed.heat is not None and placed.heat.any():
        return int(placed.heat.max(axis=(1, 2)).argmax())
    return planes // 2
