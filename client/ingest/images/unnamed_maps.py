"""ADC maps that only their pixels tell from diffusion images.

GE's workstation calls all it makes DERIVED\\SECONDARY\\PROCESSED, gives its maps the b-value they were made from, and
says in the description alone what they are: in the language of its user.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from prostafed.client.findings import SourceError
from prostafed.client.ingest.images.b_images import fit_series
from prostafed.client.ingest.images.candidates import CHOSEN, Report
from prostafed.client.ingest.images.compatible import count_positions
from prostafed.client.ingest.images.diffusion import Fit, FloatArray
from prostafed.client.ingest.images.stack import stack_volume
from prostafed.client.ingest.records import Kind, Series

MIN_CORRELATION = 0.5  # with what the other images foretell; below it nothing is known
_PROCESSED = {"DERIVED", "SECONDARY", "PROCESSED"}


def settle_maps(series: Sequence[Series], report: Report) -> list[Series]:
    """Return `series`, those of kind "dwi" that may be maps called what the other diffusion images say they are.

    Their pixels are held against the fit to the others: they follow its ADC ("adc"), the signal it foretells at their
    b-value ("dwi", as before), or exp(-b ADC) ("derived"). Where there is no fit, or they follow none, a person is
    asked (ASK_MAP) and they are left out ("other"). A study that holds no other diffusion images is left as it is.
    """
    others = [each for each in series if not _may_be_map(each)]
    if len(others) == len(series) or not any(each.kind == "dwi" for each in others):
        return list(series)
    fitted = fit_series(others, lambda error, of: None)  # what is wrong with them is said where they are used
    fit = fitted[0] if fitted else None
    settled = [replace(each, kind=_find_kind(each, fit)) if _may_be_map(each) else each for each in series]
    for each, before in zip(settled, series, strict=True):
        if before.kind == "dwi" and each.kind == "other":
            text = "expected a header that tells an ADC map from diffusion images, found a derived series of one "
            text += "b-value that may be either; it is left out, write adc, dwi or ignore into series_map.csv."
            report(SourceError("ASK_MAP", text), each)
    return settled


def _may_be_map(series: Series) -> bool:
    is_processed = _PROCESSED.issubset(each.upper() for each in series.header.image_type)
    is_single = len(series.b_values_s_per_mm2) == 1 and count_positions(series.slices) == len(series.slices)
    return series.kind == "dwi" and series.reason != CHOSEN and is_processed and is_single


def _find_kind(series: Series, fit: Fit | None) -> Kind:
    if fit is None:
        return "other"
    try:
        image = stack_volume(series.slices, "adc")
    except SourceError:
        return "dwi"  # and what is wrong with it is said there
    values, adc, s0 = (_get_values(each, image) for each in (image, fit.adc, fit.s0))
    tissue = s0 > s0.mean()
    decay = np.exp(-series.b_values_s_per_mm2[0] * 1e-6 * adc)
    foretold: dict[Kind, FloatArray] = {"adc": adc, "dwi": s0 * decay, "derived": decay}
    alike = {kind: _correlate(values[tissue], each[tissue]) for kind, each in foretold.items()}
    best = max(alike, key=lambda kind: alike[kind])
    return best if alike[best] >= MIN_CORRELATION else "other"


def _get_values(image: sitk.Image, grid: sitk.Image) -> FloatArray:
    values: FloatArray = sitk.GetArrayFromImage(sitk.Resample(image, grid))
    return values


def _correlate(first: FloatArray, second: FloatArray) -> float:
    if first.size < 2 or not (first.std() and second.std()):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
