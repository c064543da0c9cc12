"""The technical minima of PI-RADS v2.1 (Turkbey et al. 2019): what a study falls short of; it is not refused."""

from collections.abc import Mapping, Sequence

from prostafed.client.ingest.images.sources import Source
from prostafed.client.ingest.records import Series

MAX_T2W_SLICE_MM, MAX_T2W_PIXEL_MM = 3.0, (0.7, 0.4)  # phase x frequency encoding
MAX_DWI_SLICE_MM, MAX_DWI_PIXEL_MM = 4.0, 2.5
LOW_B, MIDDLE_B, MIN_HIGH_B = (0.0, 100.0), (800.0, 1000.0), 1400.0  # s/mm2; 50-100 is preferred to 0

_TOLERANCE = 1.02  # rounding of headers


def list_shortfalls(sources: Mapping[str, Source], series: Sequence[Series]) -> list[str]:
    """Return one sentence per minimum that is not met."""
    return [*_check_t2w(sources.get("t2w")), *_check_diffusion(sources), *_check_b_values(sources, series)]


def _check_t2w(source: Source | None) -> list[str]:
    if source is None:
        return []
    x, y, gap = source.image.GetSpacing()
    thickness = next((each.header.slice_thickness_mm for each in source.series), None) or gap
    coarse, fine = max(x, y), min(x, y)
    found = []
    if thickness > _TOLERANCE * MAX_T2W_SLICE_MM or gap > _TOLERANCE * thickness:
        found.append(
            f"expected T2W slices of at most {MAX_T2W_SLICE_MM:g} mm without a gap, found {thickness:.2f} mm every "
            f"{gap:.2f} mm."
        )
    if coarse > _TOLERANCE * MAX_T2W_PIXEL_MM[0] or fine > _TOLERANCE * MAX_T2W_PIXEL_MM[1]:
        aimed = " x ".join(f"{each:g}" for each in MAX_T2W_PIXEL_MM)
        found.append(f"expected T2W pixels of at most {aimed} mm, found {coarse:.2f} x {fine:.2f} mm.")
    return found


def _check_diffusion(sources: Mapping[str, Source]) -> list[str]:
    found = []
    for name in ("adc", "hbv"):
        if source := sources.get(name):
            x, y, gap = source.image.GetSpacing()
            thickness = next((each.header.slice_thickness_mm for each in source.series), None) or gap
            if thickness > _TOLERANCE * MAX_DWI_SLICE_MM or max(x, y) > _TOLERANCE * MAX_DWI_PIXEL_MM:
                found.append(
                    f"expected diffusion slices of at most {MAX_DWI_SLICE_MM:g} mm and pixels of at most "
                    f"{MAX_DWI_PIXEL_MM:g} mm in {name}, found {thickness:.2f} mm and {max(x, y):.2f} mm."
                )
    return found


def _check_b_values(sources: Mapping[str, Source], series: Sequence[Series]) -> list[str]:
    b_values = sorted({b for each in series if each.kind == "dwi" for b in each.b_values_s_per_mm2})
    high = sources["hbv"].b_value_s_per_mm2 if "hbv" in sources else None
    found = []
    if b_values and not all(any(low <= b <= top for b in b_values) for low, top in (LOW_B, MIDDLE_B)):
        have = ", ".join(f"{b:.0f}" for b in b_values)
        found.append(f"expected b-values of 50-100 and of 800-1000 s/mm2, found {have}.")
    if high is not None and high < MIN_HIGH_B:
        found.append(f"expected a high b of at least {MIN_HIGH_B:.0f} s/mm2, found {high:.0f}.")
    return found
