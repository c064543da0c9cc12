"""An axial slice as a picture: an image in grey with outlines of gland and lesion, and a bar for scale."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

GLAND_COLOUR, LESION_COLOUR = "#56B4E9", "#F0E442"  # Okabe & Ito; dashed and solid, for print in grey
HEAT = colormaps["inferno"]
SEQUENCES = {"t2w": "T2W", "adc": "ADC", "hbv": "High b-value"}
PIXELS = 400
MARGIN_MM = 18.0
BAR_MM = 20.0

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """One panel: its name and a picture as data URI."""

    label: str
    uri: str


def frame_gland(gland: Plane, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Return the window of a square around the gland with a margin; everything where no gland is outlined."""
    rows, columns = np.flatnonzero(gland.any(axis=1)), np.flatnonzero(gland.any(axis=0))
    if not rows.size:
        return slice(None), slice(None)
    spans = [(axis[0], axis[-1] + 1, mm) for axis, mm in zip((rows, columns), spacing_mm, strict=True)]
    half_mm = max((end - start) * mm for start, end, mm in spans) / 2 + MARGIN_MM
    window = [
        slice(max(0, round((start + end) / 2 - half_mm / mm)), min(size, round((start + end) / 2 + half_mm / mm)))
        for (start, end, mm), size in zip(spans, gland.shape, strict=True)
    ]
    return window[0], window[1]


def draw_picture(
    planes: Mapping[str, Plane],
    name: str,
    spacing_mm: tuple[float, float],
    heat: Plane | None = None,
    *,
    pixels: int = PIXELS,
    small_file: bool = False,
) -> str:
    """Return a picture as data URI: the plane `name` in grey, outlines of the planes gland and lesion, `heat` over it.

    `spacing_mm` (y, x); the picture is `pixels` wide, a PNG, or where a page shows many a JPEG of a tenth the size.
    """
    plane = planes[name]
    height, width = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    figure = Figure(figsize=(PIXELS / 100, PIXELS / 100 * height / width), dpi=100 * pixels / PIXELS)
    axis: Any = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    low, high = np.percentile(plane, (1, 99.5))
    extent = (0, width, height, 0)
    axis.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), extent=extent, interpolation="bilinear")
    if heat is not None:
        strength = np.clip(heat / 0.4, 0, 1) * 0.75  # below 0.4 the image shows through
        axis.imshow(heat, cmap=HEAT, vmin=0, vmax=1, alpha=strength, extent=extent)
    outlines = (("gland", GLAND_COLOUR, "dashed"), ("lesion", LESION_COLOUR, "solid"))
    for mask, colour, dash in outlines:
        if mask in planes and planes[mask].any():
            x = (np.arange(plane.shape[1]) + 0.5) * spacing_mm[1]
            y = (np.arange(plane.shape[0]) + 0.5) * spacing_mm[0]
            inside = (planes[mask] > 0).astype(np.float32)
            axis.contour(x, y, inside, levels=[0.5], colors=[colour], linewidths=2.0, linestyles=dash)
    edge = [withStroke(linewidth=4, foreground="black")]  # seen on white fat as on dark air
    left, bottom = width * 0.05, height * 0.95
    axis.plot([left, left + BAR_MM], [bottom, bottom], color="white", linewidth=2.5, path_effects=edge)
    axis.text(
        left, bottom * 0.98, f"{BAR_MM:.0f} mm", color="white", fontsize=11, family="DejaVu Sans", path_effects=edge
    )
    buffer = io.BytesIO()
    kind = "jpeg" if small_file else "png"
    options: dict[str, Any] = {"pil_kwargs": {"quality": 85}} if small_file else {"metadata": {"Software": None}}
    figure.savefig(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
