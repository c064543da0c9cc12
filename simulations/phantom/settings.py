"""What a person may set for a generated site: its scanner and its readers; plain dataclasses, numpy at most.

None means "as the vendor does it" (see `scanner.VENDORS`) or "as the centre does it" (see `centers.CENTERS`), so that
`vendor = "ge"` alone gives a believable look.
"""

from dataclasses import dataclass
from typing import Literal

from prostafed.common.imaging.adc import MAX_FIT_B_VALUE_S_PER_MM2, MIN_FIT_SPAN_S_PER_MM2
from prostafed.common.settings import Settings, setting


@dataclass(frozen=True)
class Scanner(Settings):
    """The scanner and protocol of a generated site."""

    vendor: Literal["siemens", "ge", "philips", "uih"] = setting(
        "siemens", "look of the images, and the defaults of what is left out below"
    )
    field_strength_t: float = setting(3.0, "tesla; noise falls and distortion grows with it", at_least=1, at_most=7)
    coil_bias: float | None = setting(
        None, "strength of the coil's uneven sensitivity, 0 is even; default: vendor's", at_least=0, at_most=1
    )
    noise: float | None = setting(
        None, "noise relative to the vendor's usual, 0 is none; default: 1", at_least=0, at_most=5
    )
    t2_in_plane_mm: float | None = setting(
        None, "T2W pixel, mm; default: drawn per case as at the centre", at_least=0.2, at_most=1.5
    )
    slice_thickness_mm: float | None = setting(
        None, "of all sequences, mm; default: drawn per case as at the centre", at_least=1, at_most=6
    )
    dwi_in_plane_mm: float | None = setting(None, "DWI pixel, mm; default: vendor's", at_least=0.8, at_most=4)
    b_values_s_per_mm2: tuple[float, ...] | None = setting(
        None, "ascending b-values the ADC is fitted to; default: vendor's"
    )
    high_b_value_s_per_mm2: float | None = setting(
        None, "of the hbv sequence; default: vendor's", at_least=1000, at_most=3000
    )
    high_b_source: Literal["acquired", "computed"] | None = setting(
        None, "'acquired', or 'computed' from the ADC fit as S0 exp(-b ADC); default: vendor's"
    )
    distortion_mm: float | None = setting(
        None, "DWI shift beside rectal gas at 3 T, mm; default: vendor's", at_least=0, at_most=10
    )

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        super().__post_init__()
        if self.b_values_s_per_mm2 is not None:
            _check_b_values(self.b_values_s_per_mm2)


@dataclass(frozen=True)
class Readers(Settings):
    """Who reads the cases of a generated site."""

    count: int = setting(1, "reads per case", at_least=1, at_most=7)
    kappa: float = setting(
        0.6, "Cohen's kappa of two readers on PI-RADS >= 4; with 1 they always agree", above=0, at_most=1
    )


def _check_b_values(b_values: tuple[float, ...]) -> None:
    if list(b_values) != sorted(set(b_values)) or (b_values and b_values[0] < 0):
        raise ValueError(f"b_values_s_per_mm2 must ascend from 0 or above, found {list(b_values)}.")
    fitted = [b for b in b_values if b <= MAX_FIT_B_VALUE_S_PER_MM2]
    if any(50 <= b <= 100 for b in fitted):
        fitted = [b for b in fitted if b >= 50]
    if len(fitted) < 2 or fitted[-1] - fitted[0] < MIN_FIT_SPAN_S_PER_MM2:
        raise ValueError(
            f"b_values_s_per_mm2 needs two values up to {MAX_FIT_B_VALUE_S_PER_MM2:.0f} that span at least "
            f"{MIN_FIT_SPAN_S_PER_MM2:.0f} (b < 50 is left out beside a b of 50-100), found {list(b_values)}."
        )
