"""Lesion candidates: the separate bright regions of a detection map."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prostafed.common.errors import DataError
from prostafed.common.metrics.components import BoolVolume, LabelVolume, grow, label_components

THRESHOLD_FACTOR = 2.5  # a candidate reaches down to its maximum / 2.5
MIN_CONFIDENCE = 0.01  # where the reference stops looking; AP only ranks, so a cautious model loses nothing

Map = npt.NDArray[np.float32]  # (z, y, x), probabilities of csPCa in [0, 1]


@dataclass(frozen=True)
class Candidates:
    """The candidates of a map, most confident first; candidate k has the voxels where `labels` is k + 1.

    They are found in this order: what a turn leaves is below its threshold, hence below the candidate it took.
    """

    labels: LabelVolume  # (z, y, x)
    confidences: tuple[float, ...]


def extract_candidates(
    detection_map: Map, min_voxels: int = 10, max_candidates: int = 5, min_confidence: float = MIN_CONFIDENCE
) -> Candidates:
    """Return at most `max_candidates` candidates, each of more than `min_voxels` voxels.

    Again and again: threshold at the map's maximum / 2.5, take the most confident component, erase it from the map;
    keep it unless it touches one already kept. The "dynamic" extraction of Bosma et al. 2023, corrected version 2 of
    `report_guided_annotation`: where all components are small they are erased and the search goes on. Raises DataError
    for a map outside [0, 1].
    """
    labels = np.zeros(detection_map.shape, dtype=np.int32)
    is_unit = detection_map.size and detection_map.min() >= 0 and detection_map.max() <= 1
    if detection_map.ndim != 3 or not is_unit:
        raise DataError(
            f"A detection map must be (z, y, x) with values in [0, 1], found {detection_map.shape} from "
            f"{detection_map.min():.3g} to {detection_map.max():.3g}. Apply the sigmoid, and look for NaN."
        )
    lowest = min_confidence / THRESHOLD_FACTOR  # nothing below is ever part of a candidate
    box = _bounding_box(detection_map >= lowest)
    working = np.array(detection_map[box], dtype=np.float32)
    inside = labels[box]  # a view: written through
    near = np.zeros(working.shape, dtype=bool)
    confidences: list[float] = []
    while working.size and len(confidences) < max_candidates and (peak := working.max()) >= min_confidence:
        threshold = peak / np.float32(THRESHOLD_FACTOR)
        above = working >= threshold
        component = _most_confident(working, above, min_voxels)
        if component is None:
            working[working > threshold] = 0  # as the reference: what equals the threshold may be part of another
            continue
        if not (component & near).any():
            confidences.append(float(working[component].max()))
            inside[component] = len(confidences)
            near |= grow(component)
        working[component] = 0
        if np.count_nonzero((working >= lowest) & ~near) <= min_voxels:
            break  # no room for another: spares a noisy map thousands of erasures
    return Candidates(labels, tuple(confidences))


def _most_confident(working: Map, above: BoolVolume, min_voxels: int) -> BoolVolume | None:
    components, count = label_components(above)
    members = components[above]
    sizes = np.bincount(members, minlength=count + 1)
    peaks = np.zeros(count + 1, dtype=np.float32)
    np.maximum.at(peaks, members, working[above])
    peaks[sizes <= min_voxels] = 0
    best = int(peaks.argmax())
    return components == best if peaks[best] > 0 else None


def _bounding_box(mask: BoolVolume) -> tuple[slice, ...]:
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(box)
