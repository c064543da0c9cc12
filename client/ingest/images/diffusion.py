"""Diffusion: one image per b-value, the ADC map (the scanner's, else fitted) and the high-b image. Pure functions.

`sources` reads the volumes and decides which of these a study needs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from prostafed.client.findings import SourceError
from prostafed.client.ingest.records import Slice
from prostafed.common.imaging.adc import MAX_ADC, choose_fit_b_values, compute_high_b, fit_adc
from prostafed.common.imaging.resample import as_image

FloatArray = npt.NDArray[np.float32]

HIGH_B_S_PER_MM2 = 1400.0
MIN_HIGH_B_S_PER_MM2 = 1200.0
MAX_SIGNAL_RISE = 0.15  # of the mean signal, between images that claim one b-value or the next

# Positive median of an ADC map -> factor to 1e-6 mm2/s; the first that holds it counts. Tissue is 300-3500.
_UNITS = (((300.0, 3500.0), 1.0), ((0.3, 3.5), 1e3), ((3e-4, 3.5e-3), 1e6), ((3e3, 3.5e4), 0.1))


@dataclass(frozen=True)
class Fit:
    """What a fit over b-values gives: `adc` in 1e-6 mm2/s and `s0`, on the grid of the images; the b-values it had."""

    adc: sitk.Image
    s0: sitk.Image
    b_values_s_per_mm2: tuple[float, ...]


def convert_map(image: sitk.Image) -> sitk.Image:
    """Return a scanner's ADC map in 1e-6 mm2/s, its unit found by the median of its positive voxels.

    It is clipped to [0, 4000] as the fit is: noise makes some voxels of an honest map negative, and some writers give
    air one negative value. Where more voxels than are positive lie between that value and 0, a sign or an intercept was
    read wrong, and no clipping mends that. Raises SourceError (ADC_UNITS) for such a map, and where no unit makes
    tissue of it.
    """
    values = sitk.GetArrayViewFromImage(image)
    positive, negatives = values[values > 0], int(((values < 0) & (values > values.min())).sum())
    if negatives > positive.size:
        raise SourceError(
            "ADC_UNITS",
            f"expected an ADC map of positive values, found {negatives / (negatives + positive.size):.0%} of them "
            "negative; export the map again, or leave it out and keep the diffusion images.",
        )
    median = float(np.median(positive)) if positive.size else 0.0
    for (low, high), factor in _UNITS:
        if low <= median <= high:
            converted = values * np.float32(factor)  # what is not finite stays: it is found later, and said
            return as_image(np.where(np.isfinite(converted), np.clip(converted, 0, MAX_ADC), converted), image)
    raise SourceError(
        "ADC_UNITS",
        "expected an ADC map in mm2/s or a power of ten of it (positive median 300-3500 in 1e-6 mm2/s), found a "
        f"median of {median:.3g}; export the map again, or leave it out and keep the diffusion images.",
    )


def split_b_values(slices: Iterable[Slice]) -> dict[float, tuple[Slice, ...]]:
    """Return the slices of each b-value, ascending; slices without one are left out.

    Scanners write 799.9 and 800 for one value: what lies within 2 % + 1 of the lowest of a group belongs to it, and
    the group is named by its median. Of a b-value that holds both, single directions make way for trace images.
    """
    known = sorted((each for each in slices if each.b_value_s_per_mm2 is not None), key=_get_b_value)
    groups: list[list[Slice]] = []
    for each in known:
        if groups and _get_b_value(each) <= 1.02 * _get_b_value(groups[-1][0]) + 1:
            groups[-1].append(each)
        else:
            groups.append([each])
    chosen = [[each for each in group if not each.directional] or group for group in groups]
    return {round(float(np.median([_get_b_value(each) for each in group]))): tuple(group) for group in chosen}


def split_repeats(slices: Sequence[Slice]) -> list[tuple[Slice, ...]]:
    """Return stacks with every position once, of the slices of one b-value: its directions or repetitions.

    The n-th image of each position, by instance number, makes the n-th stack. Raises SourceError (MISSING_SLICE) where
    some positions have more images than others.
    """
    positions: dict[tuple[float, ...] | None, list[Slice]] = {}
    for each in sorted(slices, key=lambda one: (one.instance_number or 0, one.frame)):
        key = None if each.position_mm is None else tuple(round(value, 2) for value in each.position_mm)
        positions.setdefault(key, []).append(each)
    counts = {len(stack) for stack in positions.values()}
    if None in positions:
        return [tuple(slices)]  # stacking says what is wrong with it
    if len(counts) > 1:
        raise SourceError(
            "MISSING_SLICE",
            f"expected as many diffusion images at every position, found {min(counts)} to {max(counts)} at b="
            f"{_get_b_value(slices[0]):.0f}; export the whole series again from the scanner or the archive.",
            "S",
        )
    return [tuple(stack) for stack in zip(*positions.values(), strict=True)]


def join_repeats(volumes: Sequence[FloatArray]) -> FloatArray:
    """Return the geometric mean of images of one b-value: of three directions the trace-weighted image."""
    if len(volumes) == 1:
        return volumes[0]
    logs = [np.log(np.maximum(volume, 1e-3)) for volume in volumes]
    return np.asarray(np.exp(np.mean(logs, axis=0)), dtype=np.float32)


def check_signals(means: Iterable[tuple[float, float]]) -> None:
    """Raise SourceError (B_VALUES_WRONG) where images cannot have the b-values they claim, by (b-value, mean signal).

    Images of one b-value are alike, within 15 %; and diffusion only ever takes signal away, so that it does not rise
    by more than 15 % from one b-value to the next.
    """
    by_b: dict[float, list[float]] = {}
    for b, mean in sorted(means):
        by_b.setdefault(b, []).append(mean)
    for b, found in by_b.items():
        if found[-1] > (1 + MAX_SIGNAL_RISE) * found[0]:
            raise SourceError(
                "B_VALUES_WRONG",
                f"expected alike signals in the {len(found)} images of b={b:.0f}, found means that differ by "
                f"{_rise(found[0], found[-1])}; correct the b-values, or export the series again.",
            )
    for (low, before), (high, after) in pairwise(by_b.items()):
        if after[-1] > (1 + MAX_SIGNAL_RISE) * before[-1]:
            raise SourceError(
                "B_VALUES_WRONG",
                f"expected less signal at b={high:.0f} than at b={low:.0f}, found {_rise(before[-1], after[-1])} more; "
                "correct the b-values, or export the series again.",
            )


def fit_map(images: Mapping[float, sitk.Image]) -> Fit | None:
    """Return the ADC fitted to images by b-value, all on one grid; None where their b-values do not allow it."""
    b_values = tuple(sorted(images))
    if not b_values:
        return None
    signals = np.stack([sitk.GetArrayViewFromImage(images[b]) for b in b_values])
    try:
        adc, s0 = fit_adc(signals, b_values)
    except ValueError:  # too few b-values up to 1000, or too close to each other
        return None
    return Fit(as_image(adc, images[b_values[0]]), as_image(s0, images[b_values[0]]), choose_fit_b_values(b_values))


def compute_high_b_image(fit: Fit) -> sitk.Image:
    """Return the image at b=1400 that `fit` foretells."""
    adc, s0 = sitk.GetArrayViewFromImage(fit.adc), sitk.GetArrayViewFromImage(fit.s0)
    return as_image(compute_high_b(s0, adc, HIGH_B_S_PER_MM2), fit.adc)


def rank_high_b(b_value_s_per_mm2: float) -> tuple[float, float]:
    """Return the key that sorts high b-values: the nearest to 1400 first, the higher of two as near."""
    return abs(b_value_s_per_mm2 - HIGH_B_S_PER_MM2), -b_value_s_per_mm2


def _rise(low: float, high: float) -> str:
    return f"{high / max(low, 1e-3) - 1:.0%}"


def _get_b_value(each: Slice) -> float:
    assert each.b_value_s_per_mm2 is not None
    return each.b_value_s_per_mm2
