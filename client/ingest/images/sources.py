"""Which series of a study becomes which sequence, stacked: the best that can be used, and why the others cannot."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import SimpleITK as sitk

from prostafed.client.findings import Severity, SourceError
from prostafed.client.ingest.images.b_images import fit_series, read_b_value
from prostafed.client.ingest.images.candidates import CHOSEN, Report, find_set_aside, rank_series
from prostafed.client.ingest.images.compatible import (
    count_positions,
    expect_positions,
    explain_interruption,
    split_exposures,
)
from prostafed.client.ingest.images.diffusion import (
    HIGH_B_S_PER_MM2,
    MIN_HIGH_B_S_PER_MM2,
    Fit,
    compute_high_b_image,
    convert_map,
    rank_high_b,
    split_b_values,
)
from prostafed.client.ingest.images.stack import misses_end_slice, stack_volume
from prostafed.client.ingest.images.unnamed_maps import settle_maps
from prostafed.client.ingest.records import Series, Slice


@dataclass(frozen=True)
class Source:
    """A sequence as it will be resampled, and where it comes from."""

    image: sitk.Image
    text: str  # "acquired", "vendor map", "fitted b=50,400,800", "acquired b=1400", "scanner-calculated b=1400", ...
    series: tuple[Series, ...]
    b_value_s_per_mm2: float | None = None  # of a diffusion-weighted image
    fitted_to_s_per_mm2: tuple[float, ...] = ()  # the b-values of the fit it comes from


def find_sources(
    series: Sequence[Series], sequences: Sequence[str], allow_missing: Sequence[str], report: Report
) -> dict[str, Source]:
    """Return the source of t2w (always: it is the reference) and of those of `sequences` that can be had.

    What cannot goes to `report`: NO_T2, NO_ADC, NO_HBV (the latter two as warnings where `allow_missing` names the
    sequence), and each series that was tried and skipped; FRAME_OF_REFERENCE where one is another than the t2w's.
    """
    found: dict[str, Source] = {}
    if t2w := find_t2w(series, report):
        found["t2w"] = t2w
    wanted = [name for name in ("adc", "hbv") if name in sequences]
    if wanted:
        series = settle_maps(series, report)
    if "adc" in wanted and (vendor := find_vendor_map(series, report)):
        found["adc"] = vendor
    if "hbv" in wanted and (high := find_high_b(series, report)):
        found["hbv"] = high
    if missing := [name for name in wanted if name not in found]:
        fitted = fit_series(series, report)
        for name in missing:
            if fitted is not None:
                found[name] = _describe_fit(name, *fitted)
            elif name == "hbv" and (high := _read_high_b(series, report, interrupted=True)):
                found[name] = high
            else:
                report(_explain_missing(name, series, "W" if name in allow_missing else "F"), None)
    _check_frames(found, report)
    for source in (each for name, each in found.items() if name != "t2w"):  # of the T2W, SEVERAL_T2_AX has said it
        _say_set_aside(source, series, report)
    return found


def find_t2w(series: Sequence[Series], report: Report) -> Source | None:
    """Return the axial T2W: of several that can be stacked the one with most slices, then the finest pixels, then the
    later acquisition.
    """
    candidates = rank_series(series, "t2w")
    failures: list[tuple[SourceError, Series]] = []
    for each in candidates:
        try:
            image = stack_volume(each.slices, "t2w")
        except SourceError as error:
            failures.append((error, each))
            continue
        for failure, other in failures:  # one that can be used stands in
            report(SourceError(failure.code, failure.text, "S"), other)
        if len(candidates) > 1:
            text = f"expected one axial T2W series, found {len(candidates)}; the one with most slices, then the finest "
            text += "pixels, then the later acquisition (a repeat is made because the first was bad) is used; "
            report(SourceError("SEVERAL_T2_AX", f"{text}series_map.csv can name another."), each)
        _check_end(each, series, report)
        return Source(image, "acquired", (each,))
    for failure, other in failures:
        report(failure, other)
    if not any(failure.severity == "F" for failure, _ in failures):
        kinds = Counter(f"{each.plane} {each.kind}" for each in series)
        there = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no series"
        report(SourceError("NO_T2", f"expected an axial T2W series, found {there}; export it too."), None)
    return None


def find_vendor_map(series: Sequence[Series], report: Report) -> Source | None:
    """Return the scanner's own ADC map in 1e-6 mm2/s."""
    for each in rank_series(series, "adc"):
        try:
            source = Source(convert_map(stack_volume(each.slices, "adc")), "vendor map", (each,))
        except SourceError as error:
            report(error, each)
            continue
        _check_end(each, series, report)
        return source
    for each in series:
        if each.header.samples_per_pixel != 1 and (
            "adc" in each.header.words.split() or "ADC" in each.header.image_type
        ):
            text = (
                "expected a grey ADC map, found one in colour, whose values cannot be read back; export the grey one."
            )
            report(SourceError("COLOUR_SKIPPED", text), each)
    return None


def find_high_b(series: Sequence[Series], report: Report) -> Source | None:
    """Return the high-b image: the acquired one of at least 1200 nearest 1400, else one the scanner calculated."""
    calculated = rank_series(series, "hbv_calc")
    if not any(each.reason == CHOSEN for each in calculated) and (found := _read_high_b(series, report)):
        return found
    for each in calculated:
        groups = split_b_values(each.slices)
        b_value = min(groups, key=rank_high_b, default=None)
        try:
            image = stack_volume(each.slices if b_value is None else groups[b_value], "hbv")
        except SourceError as error:
            report(error, each)
            continue
        name = "scanner-calculated" if b_value is None else f"scanner-calculated b={b_value:.0f}"
        return Source(image, name, (each,), b_value)
    return None


def _read_high_b(series: Sequence[Series], report: Report, *, interrupted: bool = False) -> Source | None:
    """Return the acquired high-b image: of a b-value with as many slices as the others, or of one that has fewer."""
    high: list[tuple[float, Series, tuple[Slice, ...], int]] = []
    for each in rank_series(series, "dwi"):
        for exposure in split_exposures(each.slices):
            parts = split_b_values(exposure)
            expected = expect_positions(parts.values())
            high += [(b, each, part, expected) for b, part in parts.items() if b >= MIN_HIGH_B_S_PER_MM2]
    for b, each, part, expected in sorted(high, key=lambda one: rank_high_b(one[0])):
        is_interrupted = count_positions(part) < expected
        if is_interrupted and not interrupted:
            report(explain_interruption(f"{b:.0f}", count_positions(part), expected, "W"), each)
        if is_interrupted == interrupted:
            try:
                return Source(read_b_value(part, b), f"acquired b={b:.0f}", (each,), b)
            except SourceError as error:
                report(error, each)
    return None


def _describe_fit(name: str, fit: Fit, series: tuple[Series, ...]) -> Source:
    b_values = ",".join(f"{b:.0f}" for b in fit.b_values_s_per_mm2)
    if name == "adc":
        return Source(fit.adc, f"fitted b={b_values}", series, fitted_to_s_per_mm2=fit.b_values_s_per_mm2)
    text = f"computed b={HIGH_B_S_PER_MM2:.0f} from b={b_values}"
    return Source(compute_high_b_image(fit), text, series, HIGH_B_S_PER_MM2, fit.b_values_s_per_mm2)


def _explain_missing(name: str, series: Iterable[Series], severity: Severity) -> SourceError:
    b_values = sorted({b for each in series if each.kind == "dwi" for b in split_b_values(each.slices)})
    have = f"have b=[{', '.join(f'{b:.0f}' for b in b_values)}]"
    if name == "adc":
        text = "expected an ADC map or b-values up to 1000 that span at least 400 s/mm2, of one echo time, repetition "
        text += f"time and place, {have}; export the map, or the diffusion series with all its b-values."
        return SourceError("NO_ADC", text, severity)
    text = (
        f"expected a high-b image (b >= 1200, acquired or calculated) or b-values to compute it from, {have}; export "
    )
    return SourceError("NO_HBV", f"{text}the diffusion series with all its b-values.", severity)


def _check_frames(found: Mapping[str, Source], report: Report) -> None:
    frames = {name: _get_frames(source) for name, source in found.items()}
    for name, source in found.items():
        if frames.get("t2w") and frames[name] - frames["t2w"]:
            text = f"expected {name} in the frame of reference of the T2W, found another: the patient may have been "
            text += "moved in between; look whether both show the same place."
            report(SourceError("FRAME_OF_REFERENCE", text), source.series[0])


def _get_frames(source: Source) -> set[str]:
    return {each.frame_of_reference for series in source.series for each in series.slices} - {""}


def _say_set_aside(source: Source, series: Sequence[Series], report: Report) -> None:
    b_values = source.fitted_to_s_per_mm2 or tuple(filter(None, [source.b_value_s_per_mm2]))
    for each in source.series:
        aside = [other for other in find_set_aside(each, b_values, series) if other not in source.series]
        if count := sum(len(other.slices) for other in aside):
            text = (
                f"expected one stack under a series, found {count} images beside the {len(each.slices)} used that make "
            )
            text += "another; they were set aside, compare with the archive, series_map.csv can name another."
            report(SourceError("SET_ASIDE", text), each)


def _check_end(used: Series, series: Iterable[Series], report: Report) -> None:
    # Of itself, too: what shares its UID may be counted on.
    if misses_end_slice(used.slices) and misses_end_slice(
        [slice_ for each in series if each.uid == used.uid for slice_ in each.slices]
    ):
        text = "expected instance numbers up to the count of slices, found higher ones: the first or last slice may be "
        report(SourceError("MISSING_SLICE", f"{text}missing; compare with the archive.", "W"), used)
