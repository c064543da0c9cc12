"""How well the gland and its zones are segmented in one case."""

from collections.abc import Mapping, Sequence

import numpy.typing as npt

from prostafed.common.metrics.overlap import dice, volume_difference
from prostafed.common.metrics.surface import hausdorff_95, surface_dice

STRUCTURES = ("gland", "pz", "tz")
TOLERANCE_MM = 2.0  # of the surface Dice; ours, below the slice spacing of prostate MRI
_MEASURES = ("dice", "hd95_mm", "surface_dice", "volume_difference")
STRUCTURE_MEASURES = tuple(f"{structure}_{measure}" for structure in STRUCTURES for measure in _MEASURES)


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
