"""The images of a study by b-value, and the ADC fitted to those that lie on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from prostafed.client.ingest.findings import SourceError
from prostafed.client.ingest.images.candidates import Report, rank_series
from prostafed.client.ingest.images.diffusion import (
    Fit,
    FloatArray,
    check_signals,
    fit_map,
    join_repeats,
    share_grid,
    split_b_values,
    split_repeats,
)
from prostafed.client.ingest.images.stack import stack_volume
from prostafed.client.ingest.records import Series, Slice
from prostafed.common.imaging.adc import MAX_FIT_B_VALUE_S_PER_MM2


@dataclass(frozen=True)
class _BImage:
    image: sitk.Image
    series: Series
    mean: float


_BImages = Mapping[float, _BImage]


def fit_series(series: Sequence[Series], report: Report) -> tuple[Fit, tuple[Series, ...]] | None:
    """Return the ADC fitted over the b-values of all diffusion series on one grid, and the series it was made from.

    Of several grids the one that offers most b-values counts. Series whose signals contradict those of another one
    (B_VALUES_WRONG) are fitted by themselves, those without b-values (NO_BVALUE) are skipped.
    """
    sets: list[dict[float, _BImage]] = []
    for each in rank_series(series, "dwi"):
        try:
            images = _read_b_values(each, report)
        except SourceError as error:
            report(error, each)
            continue
        for other in sets:
            if _belong_together(images, other, each, report):
                other.update({b: image for b, image in images.items() if b not in other})
                break
        else:
            sets.append(images)
    fits = [(fit, images) for images in sets if (fit := fit_map({b: one.image for b, one in images.items()}))]
    if not fits:
        return None
    fit, images = max(fits, key=lambda one: len(one[0].b_values_s_per_mm2))
    return fit, tuple({images[b].series.uid: images[b].series for b in fit.b_values_s_per_mm2}.values())


def _belong_together(images: _BImages, others: _BImages, series: Series, report: Report) -> bool:
    if not (images and others and share_grid(next(iter(images.values())).image, next(iter(others.values())).image)):
        return False
    try:
        check_signals([*_get_means(images), *_get_means(others)])
    except SourceError as error:
        report(error, series)
        return False
    return True


def _read_b_values(series: Series, report: Report) -> dict[float, _BImage]:
    """Return one image per b-value up to 1000 of a diffusion series."""
    groups = split_b_values(series.slices)
    if not groups:
        raise SourceError(
            "NO_BVALUE",
            f"expected the b-value in the headers of a diffusion series, found none in {len(series.slices)} images; "
            "export it from the scanner or an archive that keeps private elements.",
        )
    images: dict[float, _BImage] = {}
    for b, slices in groups.items():
        if b > MAX_FIT_B_VALUE_S_PER_MM2:
            continue
        try:
            image = read_b_value(slices, b)
            images[b] = _BImage(image, series, _get_mean(sitk.GetArrayViewFromImage(image)))
        except SourceError as error:
            if error.code == "B_VALUES_WRONG":  # of one, so of all
                raise
            report(error, series)
    check_signals(_get_means(images))
    return images


def _get_means(images: _BImages) -> list[tuple[float, float]]:
    return [(b, image.mean) for b, image in images.items()]


def read_b_value(slices: Sequence[Slice], b_value: float) -> sitk.Image:
    """Return one image of the slices of a b-value, directions and repetitions joined; raises SourceError."""
    stacks = [stack_volume(stack, "dwi") for stack in split_repeats(slices)]
    volumes = [sitk.GetArrayViewFromImage(stack) for stack in stacks]
    if not all(each.directional for each in slices):  # muscle shines in one direction and is dark in another
        check_signals([(b_value, _get_mean(volume)) for volume in volumes])
    image = sitk.GetImageFromArray(join_repeats(volumes))
    image.CopyInformation(stacks[0])
    return image


def _get_mean(volume: FloatArray) -> float:
    return float(volume.mean(dtype=np.float64))
