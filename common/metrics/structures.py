"""How well the gland and its zones are segmented in one case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy.typing as npt

from prostafed.common.metrics.measure import Measure
from prostafed.common.metrics.overlap import dice, volume_difference
from prostafed.common.metrics.surface import hausdorff_95, surface_dice

STRUCTURES = {"gland": "Gland", "pz": "Peripheral zone", "tz": "Transition zone"}
TOLERANCE_MM = 2.0  # of the surface Dice; ours, below the slice spacing of prostate MRI
_FURTHEST = 1e5  # mm; no image is as large
_LARGEST = 1e7  # times the true volume: that of one voxel
_MEASURES = {
    "dice": Measure("Dice", "overlap with the delineation, 0 to 1"),
    "hd95_mm": Measure(
        "HD95", "95th percentile of the distance between the surfaces, 0 is perfect", False, "mm", most=_FURTHEST
    ),
    "surface_dice": Measure("surface Dice", f"share of the surfaces within {TOLERANCE_MM:g} mm of each other, 0 to 1"),
    "volume_difference": Measure(
        "volume difference",
        "difference of the volumes as a fraction of the true one, 0 is perfect",
        False,
        most=_LARGEST,
    ),
}
STRUCTURE_MEASURES = {
    f"{structure}_{name}": replace(measure, label=f"{label} {measure.label}")
    for structure, label in STRUCTURES.items()
    for name, measure in _MEASURES.items()
}


def measure_structures(
    pairs: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Return the measures, named as in STRUCTURE_MEASURES, of {structure: (predicted, true)}, masks (z, y, x).

    What is undefined is absent: everything where both masks are empty, the volume difference where the true one is.
    """
    found: dict[str, float | None] = {}
    for structure, (predicted, true) in pairs.items():
        found[f"{structure}_dice"] = dice(predicted, true)
        found[f"{structure}_hd95_mm"] = hausdorff_95(predicted, true, spacing_mm)
        found[f"{structure}_surface_dice"] = surface_dice(predicted, true, spacing_mm, TOLERANCE_MM)
        found[f"{structure}_volume_difference"] = volume_difference(predicted, true)
    return {name: value for name, value in found.items() if value is not None}
