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
    field_strength_t: float = setting(3.0, "tesla, 1 to 7; noise falls and distortion grows with it")
    coil_bias: float | None = setting(
        None, "strength of the coil's uneven sensitivity, 0 (even) to 1; default: vendor's"
    )
    noise: float | None = setting(None, "noise relative to the vendor's usual, 0 (none) to 5; default: 1")
    t2_in_plane_mm: float | None = setting(None, "T2W pixel, 0.2 to 1.5 mm; default: drawn per case as at the centre")
    slice_thickness_mm: float | None = setting(
        None, "of all sequences, 1 to 6 mm; default: drawn per case as at the centre"
    )
    dwi_in_plane_mm: float | None = setting(None, "DWI pixel, 0.8 to 4 mm; default: vendor's")
    b_values_s_per_mm2: tuple[float, ...] | None = setting(
        None, "ascending b-values the ADC is fitted to; default: vendor's"
    )
    high_b_value_s_per_mm2: float | None = setting(None, "of the hbv sequence, 1000 to 3000; default: vendor's")
    high_b_source: Literal["acquired", "computed"] | None = setting(
        None, "'acquired', or 'computed' from the ADC fit as S0 exp(-b ADC); default: vendor's"
    )
    distortion_mm: float | None = setting(None, "DWI shift beside rectal gas at 3 T, 0 to 10 mm; default: vendor's")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        for name, low, high in (
            ("field_strength_t", 1, 7),
            ("coil_bias", 0, 1),
            ("noise", 0, 5),
            ("t2_in_plane_mm", 0.2, 1.5),
            ("slice_thickness_mm", 1, 6),
            ("dwi_in_plane_mm", 0.8, 4),
            ("high_b_value_s_per_mm2", 1000, 3000),
            ("distortion_mm", 0, 10),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} must lie between {low} and {high}, found {value}.")
        if self.b_values_s_per_mm2 is not None:
            _check_b_values(self.b_values_s_per_mm2)


@dataclass(frozen=True)
class Readers(Settings):
    """Who reads the cases of a generated site."""

    count: int = setting(1, "reads per case, 1 to 7")
    kappa: float = setting(0.6, "Cohen's kappa of two readers on PI-RADS >= 4, above 0, at most 1 (they always agree)")

    def __post_init__(self) -> None:
        """Raise ValueError where a value is out of range."""
        if not 1 <= self.count <= 7:
            raise ValueError(f"count must lie between 1 and 7, found {self.count}.")
        if not 0 < self.kappa <= 1:
            raise ValueError(f"kappa must lie in (0, 1], found {self.kappa}.")


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
