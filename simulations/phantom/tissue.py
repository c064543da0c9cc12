"""Tissues: T2, proton density and ADC, and the signals that follow from them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """What a voxel is made of. Values at 3 T; `fat` is nulled by the fat suppression of diffusion imaging."""

    t2_ms: float
    proton_density: float  # relative to water
    adc: float  # 1e-6 mm2/s
    fat: bool = False


FAT_SUPPRESSION = 0.04  # of fat signal left in diffusion images

# ADC: usual ranges, PZ 1300-1700, TZ 1200-1400, cancer 700-1100. T2 and density chosen so that T2W intensities come out
# in the order and rough ratios of axial TSE: urine > fat, PZ > TZ > stroma > muscle > cortical bone.
TISSUES = {
    "air": Tissue(1.0, 0.0, 0.0),
    "fat": Tissue(140.0, 0.90, 250.0, fat=True),
    "marrow": Tissue(105.0, 0.68, 400.0, fat=True),
    "cortex": Tissue(8.0, 0.2, 500.0),
    "muscle": Tissue(38.0, 0.90, 1250.0),
    "urine": Tissue(1200.0, 1.0, 2900.0),
    "bladder_wall": Tissue(52.0, 0.88, 1450.0),
    "rectal_wall": Tissue(62.0, 0.85, 1250.0),
    "stool": Tissue(45.0, 0.55, 900.0),
    "gel": Tissue(400.0, 0.9, 2300.0),
    "vessel": Tissue(240.0, 0.88, 2000.0),
    "flow_void": Tissue(10.0, 0.3, 1500.0),
    "seminal_vesicle": Tissue(230.0, 0.90, 1900.0),
    "pz": Tissue(160.0, 0.90, 1580.0),
    "tz": Tissue(92.0, 0.85, 1290.0),
    "cz": Tissue(72.0, 0.84, 1080.0),
    "stroma": Tissue(50.0, 0.84, 1100.0),
    "capsule": Tissue(42.0, 0.80, 1200.0),
    "urethra": Tissue(150.0, 0.90, 1500.0),
    "cancer": Tissue(66.0, 0.86, 640.0),
}


def t2w_signal(tissue: Tissue, echo_time_ms: float, t2_factor: float) -> float:
    """Return PD exp(-TE / T2), relative to water; `t2_factor` scales T2 (longer at lower field strength)."""
    return tissue.proton_density * float(np.exp(-echo_time_ms / (tissue.t2_ms * t2_factor)))


def b0_signal(tissue: Tissue, echo_time_ms: float, t2_factor: float) -> float:
    """Return the same at the echo time of a fat-suppressed diffusion sequence, without diffusion weighting."""
    return t2w_signal(tissue, echo_time_ms, t2_factor) * (FAT_SUPPRESSION if tissue.fat else 1.0)


def mix(tissue: Tissue, other: Tissue, share: float) -> Tissue:
    """Return a tissue `share` of the way from `tissue` to `other`."""
    return Tissue(
        tissue.t2_ms + share * (other.t2_ms - tissue.t2_ms),
        tissue.proton_density + share * (other.proton_density - tissue.proton_density),
        tissue.adc + share * (other.adc - tissue.adc),
    )


def vary(tissue: Tissue, rng: np.random.Generator, t2_deviation: float, adc_deviation: float) -> Tissue:
    """Return one patient's tissue: T2 and ADC scaled log-normally by these deviations, by two of them at most."""
    t2, adc = np.exp(np.clip(rng.normal(size=2), -2, 2) * (t2_deviation, adc_deviation))
    return Tissue(tissue.t2_ms * float(t2), tissue.proton_density, tissue.adc * float(adc), tissue.fat)
