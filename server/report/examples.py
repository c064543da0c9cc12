"""Example slices as pictures: each sequence with outlines of gland and lesion, and the detection map over T2W."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import to_hex
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
    """One panel: its name and a PNG as data URI."""

    label: str
    uri: str


@dataclass(frozen=True)
class Example:
    """A site's example case."""

    site: str
    case_id: str
    source: str  # as in the federation file
    caption: str
    pictures: tuple[Picture, ...]
    peak: float | None  # highest value of the detection map within the slice


def read_example(path: Path, spacing_mm: tuple[float, float]) -> Example | None:
    """Return the example in an .npz file, None where it cannot be read; `spacing_mm` (y, x)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        texts = {name: str(arrays.get(name, "")) for name in ("site", "case_id", "source", "caption")}
        planes = {name: array.astype(np.float32) for name, array in arrays.items() if array.ndim == 2}
        pictures = _draw_pictures(planes, spacing_mm)
    except (OSError, EOFError, ValueError, LookupError, BadZipFile):
        return None
    peak = float(planes["detection"].max()) if "detection" in planes else None
    return Example(texts["site"], texts["case_id"], texts["source"], texts["caption"], pictures, peak)


def heat_stops() -> list[str]:
    """Return the colours of the detection map from 0 to 1, for a legend."""
    return [to_hex(HEAT(value)) for value in np.linspace(0, 1, 6)]


def _draw_pictures(planes: dict[str, Plane], spacing_mm: tuple[float, float]) -> tuple[Picture, ...]:
    first = next(iter(planes.values()))
    window = _around(planes.get("gland", np.zeros_like(first)), spacing_mm)
    cropped = {name: plane[window] for name, plane in planes.items()}
    present = [name for name in SEQUENCES if name in planes]
    pictures = [Picture(SEQUENCES[name], _picture(cropped, name, spacing_mm)) for name in present]
    if "detection" in planes:
        heat = _picture(cropped, present[0], spacing_mm, cropped["detection"])
        pictures.append(Picture(f"Detection map on {SEQUENCES[present[0]]}", heat))
    return tuple(pictures)


def _around(gland: Plane, spacing_mm: tuple[float, float]) -> tuple[slice, slice]:
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


def _picture(planes: dict[str, Plane], name: str, spacing_mm: tuple[float, float], heat: Plane | None = None) -> str:
    plane = planes[name]
    height, width = plane.shape[0] * spacing_mm[0], plane.shape[1] * spacing_mm[1]
    figure = Figure(figsize=(PIXELS / 100, PIXELS / 100 * height / width), dpi=100)
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
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
