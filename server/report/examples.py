"""Example slices as pictures: each sequence with outlines of gland and lesion, and the detection map over T2W."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from matplotlib.colors import to_hex

from prostafed.common.pages.pictures import HEAT, SEQUENCES, Picture, Plane, draw_picture, frame_gland


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
    window = frame_gland(planes.get("gland", np.zeros_like(first)), spacing_mm)
    cropped = {name: plane[window] for name, plane in planes.items()}
    present = [name for name in SEQUENCES if name in planes]
    pictures = [Picture(SEQUENCES[name], draw_picture(cropped, name, spacing_mm)) for name in present]
    if "detection" in planes:
        heat = draw_picture(cropped, present[0], spacing_mm, cropped["detection"])
        pictures.append(Picture(f"Detection map on {SEQUENCES[present[0]]}", heat))
    return tuple(pictures)
