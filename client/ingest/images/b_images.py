"""The images of a study by b-value, and the ADC fitted to those of one echo time, one repetition time and one grid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.candidates import Report, rank_series
from prostafed.client.ingest.images.compatible import (
    explain_interruption,
    find_difference,
    lies_within,
    share_grid,
    split_exposures,
    sum_up_times,
)
from prostafed.client.ingest.images.diffusion import (
    Fit,
    FloatArray,
    check_signals,
    fit_map,
    join_repeats,
    split_b_values,
    split_repeats,
)
from prostafed.client.ingest.images.stack import stack_volume
from prostafed.client.ingest.records import Series, Slice
from prostafed.common.imaging.adc import MAX_FIT_B_VALUE_S_PER_MM2
from prostafed.common.imaging.resample import as_image


@dataclass(frozen=True)
class _BImage:
    image: sitk.Image
    series: Series
    slice: Slice  # one of those it was made of, with the median of their repetition times
    mean: float


_BImages = dict[float, _BImage]  # by b-value; of one echo time, one repetition time and one grid


def fit_series(series: Sequence[Series], report: Report) -> tuple[Fit, tuple[Series, ...]] | None:
    """Return the ADC fitted over the b-values of all diffusion series, and the series it was made from.

    Only images of one echo time, one repetition time and one grid are fitted together, whether one series holds them or
    several: of such sets the one that offers most b-values counts. b-values that are left out for it are reported
    (MIXED_DIFFUSION; MISSING_SLICE where only slices are missing), as are series whose signals contradict those of
    another one (B_VALUES_WRONG), which are fitted by themselves, and those without b-values (NO_BVALUE).
    """
    sets: list[_BImages] = []
    for each in rank_series(series, "dwi"):
        try:
            parts = _read_b_values(each, report)
        except SourceError as error:
            report(error, each)
            continue
        for images in parts:
            for other in sets:
                if _belong_together(images, other, each, report):
                    other.update({b: image for b, image in images.items() if b not in other})
                    break
            else:
                sets.append(images)
    if not sets:
        return None
    fits = [fit_map({b: one.image for b, one in images.items()}) for images in sets]
    worth = [
        (0 if fit is None else len(fit.b_values_s_per_mm2), len(images), _get_any(images).image.GetSize()[2])
        for fit, images in zip(fits, sets, strict=True)
    ]
    best = worth.index(max(worth))
    for images in sets:
        _report_apart(images, sets[best], report)
    fit, images = fits[best], sets[best]
    if fit is None:
        return None
    return fit, tuple(dict.fromkeys(images[b].series for b in fit.b_values_s_per_mm2))


def read_b_value(slices: Sequence[Slice], b_value: float) -> sitk.Image:
    """Return one image of the slices of a b-value, directions and repetitions joined; raises SourceError."""
    stacks = [stack_volume(stack, "dwi") for stack in split_repeats(slices)]
    volumes = [sitk.GetArrayViewFromImage(stack) for stack in stacks]
    if not all(each.directional for each in slices):  # muscle shines in one direction and is dark in another
        check_signals([(b_value, _get_mean(volume)) for volume in volumes])
    return as_image(join_repeats(volumes), stacks[0])


def _read_b_values(series: Series, report: Report) -> list[_BImages]:
    """Return one image per b-value up to 1000 of a diffusion series, those together that may be fitted together."""
    if lost := sum(each.b_value_s_per_mm2 is None for each in series.slices):
        error = SourceError(
            "NO_BVALUE",
            f"expected the b-value in the headers of a diffusion series, found none in {lost} of {len(series.slices)} "
            "images; export it from the scanner or an archive that keeps private elements.",
        )
        if lost == len(series.slices):
            raise error
        report(error, series)
    sets: list[_BImages] = []
    for exposure in split_exposures(series.slices):
        alike: list[_BImages] = []  # on one grid each
        for b, slices in split_b_values(exposure).items():
            if b > MAX_FIT_B_VALUE_S_PER_MM2:
                continue
            try:
                image = read_b_value(slices, b)
            except SourceError as error:
                if error.code == "B_VALUES_WRONG":  # of one, so of all
                    raise
                report(error, series)
                continue
            home = next((images for images in alike if share_grid(_get_any(images).image, image)), None)
            if home is None:
                alike.append(home := {})
            home[b] = _BImage(image, series, sum_up_times(slices), _get_mean(sitk.GetArrayViewFromImage(image)))
        for images in alike:
            check_signals(_get_means(images))
        sets.extend(alike)
    return sets


def _belong_together(images: _BImages, others: _BImages, series: Series, report: Report) -> bool:
    if _name_difference(images, others):
        return False
    try:
        check_signals([*_get_means(images), *_get_means(others)])
    except SourceError as error:
        report(error, series)
        return False
    return True


def _report_apart(images: _BImages, fitted: _BImages, report: Report) -> None:
    """Say which b-values the fit lacks because their images differ from its own."""
    difference = _name_difference(images, fitted)
    lost = [b for b in images if b not in fitted]
    if not (difference and lost):
        return
    one, whole = images[lost[0]], _get_any(fitted)
    if difference == _PLACE and lies_within(one.image, whole.image):
        error = explain_interruption(_list(lost), one.image.GetSize()[2], whole.image.GetSize()[2], "S")
    else:
        error = SourceError(
            "MIXED_DIFFUSION",
            f"expected diffusion images of one echo time, one repetition time and one place, found b={_list(lost)} of "
            f"another {difference} than b={_list(fitted)}; they are not fitted together, export a series that holds "
            "all of them.",
        )
    report(error, one.series)


_PLACE = "place"


def _name_difference(images: _BImages, others: _BImages) -> str:
    one, other = _get_any(images), _get_any(others)
    return find_difference(one.slice, other.slice) or ("" if share_grid(one.image, other.image) else _PLACE)


def _get_any(images: _BImages) -> _BImage:
    return next(iter(images.values()))


def _get_means(images: Mapping[float, _BImage]) -> list[tuple[float, float]]:
    return [(b, image.mean) for b, image in images.items()]


def _get_mean(volume: FloatArray) -> float:
    return float(volume.mean(dtype=np.float64))


def _list(b_values: Iterable[float]) -> str:
    return ",".join(f"{b:.0f}" for b in sorted(b_values))
