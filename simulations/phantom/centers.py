"""Published rates per PI-CAI centre: what the generated patients of a centre look like.

Every figure is a count or a moment computed by us from the PI-CAI tables (Saha, Bosma, Twilt et al., Lancet Oncol 2024;
marksheet and masks of DIAGNijmegen/picai_labels, CC BY-NC 4.0, as of July 2026): 1,500 studies, 425 with csPCa.
No row of theirs is kept here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Age, gland and PSA of the patients with, or without, csPCa (marksheet; gland: Bosma22b masks)."""

    age_years: tuple[float, float]  # mean, standard deviation
    log_gland_ml: tuple[float, float]  # mean, standard deviation of ln(ml)
    log_psa_on_log_gland: tuple[float, float, float]  # slope, intercept, residual deviation of ln(ng/ml) on ln(ml)


@dataclass(frozen=True)
class Center:
    """One centre; the counts stand as counted, rates follow from them."""

    studies: int
    pirads: tuple[int, int, int, int, int]  # studies whose highest lesion_PIRADS is 1..5
    cspca: tuple[int, int, int, int]  # of the studies at PI-RADS <= 2, 3, 4, 5: those with case_csPCa = YES
    isup1: tuple[int, int, int, int]  # of the same: those with case_ISUP = 1
    several_lesions: float  # of the studies with a lesion of PI-RADS >= 3: share with two or more such lesions
    without: Group
    with_cspca: Group
    tz_on_log_gland: tuple[
        float, float, float
    ]  # slope, intercept, residual deviation of TZ / (PZ + TZ) (HeviAI23 masks)
    reported_on_gland: tuple[float, float]  # median and deviation of ln(prostate_volume / Bosma22b gland)
    t2_grids: tuple[tuple[float, float, int], ...]  # in-plane mm, slice spacing mm, studies (the common ones)

    @property
    def pirads_rates(self) -> tuple[float, ...]:
        """Share of the studies at PI-RADS 1..5."""
        return tuple(count / self.studies for count in self.pirads)


CENTERS = {
    "RUMC": Center(
        studies=800,
        pirads=(36, 287, 86, 172, 219),
        cspca=(2, 14, 67, 153),
        isup1=(4, 13, 36, 36),
        several_lesions=122 / 477,
        without=Group((63.6, 6.9), (4.09, 0.49), (0.65, -0.56, 0.64)),
        with_cspca=Group((67.0, 7.2), (3.75, 0.40), (0.44, 0.80, 0.67)),
        tz_on_log_gland=(0.214, -0.219, 0.096),
        reported_on_gland=(0.16, 0.20),
        t2_grids=((0.3, 3.6, 375), (0.5, 3.0, 291), (0.5625, 3.0, 63), (0.5, 3.6, 32)),
    ),
    "ZGT": Center(
        studies=350,
        pirads=(8, 183, 17, 60, 82),
        cspca=(2, 2, 22, 54),
        isup1=(8, 6, 28, 17),
        several_lesions=25 / 159,
        without=Group((65.9, 7.4), (4.02, 0.50), (0.57, -0.40, 0.63)),
        with_cspca=Group((69.3, 6.8), (3.75, 0.44), (0.86, -0.75, 0.83)),
        tz_on_log_gland=(0.184, -0.100, 0.089),
        reported_on_gland=(-0.04, 0.16),
        t2_grids=((0.5, 3.0, 350),),
    ),
    "PCNN": Center(
        studies=350,
        pirads=(93, 9, 48, 120, 80),
        cspca=(4, 3, 57, 45),
        isup1=(21, 16, 22, 21),
        several_lesions=35 / 248,
        without=Group((66.2, 7.0), (3.93, 0.49), (0.66, -0.43, 0.66)),
        with_cspca=Group((68.0, 6.0), (3.83, 0.42), (0.04, 2.15, 0.70)),
        tz_on_log_gland=(0.213, -0.223, 0.094),
        reported_on_gland=(-0.03, 0.24),
        t2_grids=((0.3423, 3.0, 224), (0.4688, 3.0, 52), (0.2812, 3.3, 19), (0.2344, 3.3, 18), (0.5729, 3.5, 14)),
    ),
}

# ISUP 2, 3, 4, 5 among the csPCa studies of all centres, at PI-RADS <= 4 and at PI-RADS 5 (marksheet).
ISUP_OF_CSPCA = ((120, 33, 12, 8), (114, 66, 28, 44))

# ln(ml) of single expert-drawn csPCa lesions at PI-RADS 3, 4, 5: mean and deviation (9, 87 and 146 lesions); those at
# PI-RADS <= 2 are too few to count and take the row of PI-RADS 3.
LOG_LESION_ML = ((-0.70, 0.86), (-0.24, 1.00), (1.10, 1.28))

# Edges of the gland's box over the cube root of its volume in ml, (z, y, x): mean and deviation over 42 HeviAI23 masks.
GLAND_EXTENT_MM = ((11.7, 1.1), (12.0, 1.0), (14.8, 1.4))
